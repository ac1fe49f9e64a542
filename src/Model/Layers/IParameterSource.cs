using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>Where parameter values come from: a checkpoint, or a seed.</summary>
public interface IParameterSource
{
    /// <summary>Writes the values of a parameter or bias buffer.</summary>
    /// <param name="name">Released checkpoint name.</param>
    /// <param name="shape">Expected shape.</param>
    /// <param name="destination">All elements, row-major.</param>
    void Read(string name, TensorShape shape, Span<float> destination);

    /// <summary>
    /// Writes the values into the parameter's tensor, by way of the host unless the source can make them on the device; to
    /// be called inside submitted work.
    /// </summary>
    /// <param name="kernels">Kernels of the tensor's device.</param>
    /// <param name="name">Released checkpoint name.</param>
    /// <param name="destination">Dense, of the parameter's shape.</param>
    void Read(IKernels kernels, string name, Tensor destination) => kernels.Write(
        destination, (Source: this, Name: name, destination.Shape),
        static (values, state) => state.Source.Read(state.Name, state.Shape, values));
}
