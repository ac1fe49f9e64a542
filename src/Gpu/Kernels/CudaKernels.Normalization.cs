using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>RMSNorm and its gradients; <c>Normalization.cu</c>.</content>
internal sealed partial class CudaKernels
{
    private const int ColumnsOfLaneBlock = 32;
    private const int RowsOfLaneBlock = 256;

    private CudaKernel RmsNormKernel => field ??= _library.Kernel("Normalization.cu", "rms_norm");

    private CudaKernel RmsNormScaleKernel => field ??= _library.Kernel("Normalization.cu", "rms_norm_scale");

    private CudaKernel RmsNormBackwardInputKernel =>
        field ??= _library.Kernel("Normalization.cu", "rms_norm_backward_input");

    private CudaKernel RmsNormBackwardWeightKernel =>
        field ??= _library.Kernel("Normalization.cu", "rms_norm_backward_weight");

    /// <inheritdoc/>
    public void RmsNorm(Tensor input, Tensor weight, Tensor output, Tensor inverseRms, float epsilon)
    {
        KernelChecks.RmsNorm(input, weight, output, inverseRms);
        KernelArguments arguments = new();
        arguments.Add(Device(input));
        arguments.Add(weight.Address);
        arguments.Add(Device(output));
        arguments.Add(inverseRms.Address);
        arguments.Add(epsilon);
        Launch(RmsNormKernel, Rows(input.Rows), ref arguments);
    }

    /// <inheritdoc/>
    public void RmsNormBackwardInput(
        Tensor gradOutput, Tensor input, Tensor weight, Tensor inverseRms, Tensor gradInput, bool accumulate = false)
    {
        KernelChecks.RmsNormBackwardInput(gradOutput, input, weight, inverseRms, gradInput);
        KernelArguments arguments = new();
        arguments.Add(Device(gradOutput));
        arguments.Add(Device(input));
        arguments.Add(weight.Address);
        arguments.Add(inverseRms.Address);
        arguments.Add(Device(gradInput));
        arguments.Add(accumulate ? 1 : 0);
        Launch(RmsNormBackwardInputKernel, Rows(input.Rows), ref arguments);
    }

    /// <inheritdoc/>
    public void RmsNormBackwardWeight(Tensor gradOutput, Tensor input, Tensor inverseRms, Tensor gradWeight)
    {
        KernelChecks.RmsNormBackwardWeight(gradOutput, input, inverseRms, gradWeight);
        KernelArguments arguments = new();
        arguments.Add(Device(gradOutput));
        arguments.Add(Device(input));
        arguments.Add(inverseRms.Address);
        arguments.Add(gradWeight.Address);
        uint blocks = Dim3.Cover(input.Columns, ColumnsOfLaneBlock);
        uint rowBlocks = Math.Max(1, Dim3.Cover(input.Rows, RowsOfLaneBlock));
        using Scratch partial = Take(
            rowBlocks > 1 ? (long)rowBlocks * input.Columns * sizeof(float) : 0, nameof(RmsNormBackwardWeight));
        arguments.Add(partial.Address);
        arguments.Add(Counters((int)blocks));
        Launch(RmsNormBackwardWeightKernel, new(new(blocks, rowBlocks), new(BlockThreads)), ref arguments);
    }
}
