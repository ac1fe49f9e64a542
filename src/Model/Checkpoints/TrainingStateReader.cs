using System.Runtime.InteropServices;
using Krewe.Model.Kernels;
using Krewe.Model.Layers;
using Krewe.Model.Tensors;

namespace Krewe.Model.Checkpoints;

/// <summary>Float32 masters and AdamW's moments of a run's checkpoint.</summary>
public sealed class TrainingStateReader : IParameterSource, IDisposable
{
    private readonly SafetensorsFile _file;

    private TrainingStateReader(SafetensorsFile file) => _file = file;

    /// <summary>Opens the training state of a checkpoint folder.</summary>
    /// <exception cref="KreweException">The folder has none, or it is damaged.</exception>
    public static TrainingStateReader Open(string checkpoint) => new(SafetensorsFile.Open(
        Path.Combine(checkpoint, TrainingStateFiles.Folder, TrainingStateFiles.Optimizer)));

    /// <inheritdoc/>
    public void Read(string name, TensorShape shape, Span<float> destination)
    {
        SafetensorsTensor tensor = Expect(name, shape);
        MemoryMarshal.Cast<byte, float>(_file.Bytes(tensor)).CopyTo(destination);
    }

    /// <summary>
    /// Fills the moments of a parameter, in the type that the run keeps them in; to be called inside submitted work.
    /// </summary>
    public void ReadMoments(IKernels kernels, Parameter parameter)
    {
        Copy(kernels, TrainingStateFiles.FirstMoment(parameter.Name), parameter.FirstMoment);
        Copy(kernels, TrainingStateFiles.SecondMoment(parameter.Name), parameter.SecondMoment);
    }

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();

    private void Copy(IKernels kernels, string name, Tensor destination)
    {
        SafetensorsTensor tensor = Expect(name, destination.Shape);
        if (tensor.DType != destination.DType)
        {
            throw new KreweException(
                $"{_file.Path}: '{name}' is {tensor.DType}, the run keeps {destination.DType}: resume with --moments as before");
        }

        kernels.Upload(_file.Bytes(tensor), destination);
    }

    private SafetensorsTensor Expect(string name, TensorShape shape)
    {
        SafetensorsTensor tensor = _file[name];
        return tensor.Shape == shape
            ? tensor
            : throw new KreweException($"{_file.Path}: '{name}' is {tensor.Shape}, the model expects {shape}");
    }
}
