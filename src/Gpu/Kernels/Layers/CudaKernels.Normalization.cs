using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>RMSNorm and its gradients; <c>Normalization.cu</c>.</content>
internal sealed partial class CudaKernels
{
    private const int ColumnsOfLaneBlock = 32;
    private const int RowsOfLaneBlock = 256;

    /// <summary>Most columns of a row that a warp takes; a longer one has a block.</summary>
    private const int ColumnsOfWarpRow = 1024;

    private RowKernels RmsNormKernels => field ??= new(_library, "rms_norm");

    private RowKernels RmsNormScaleKernels => field ??= new(_library, "rms_norm_scale");

    private RowKernels RmsNormBackwardInputKernels => field ??= new(_library, "rms_norm_backward_input");

    private CudaKernel RmsNormBackwardWeightKernel =>
        field ??= _library.Kernel("Layers/Normalization.cu", "rms_norm_backward_weight");

    /// <inheritdoc/>
    public void RmsNorm(Tensor input, Tensor weight, Tensor output, Tensor inverseRms, float epsilon)
    {
        KernelChecks.RmsNorm(input, weight, output, inverseRms);
        KernelArguments arguments = new();
        arguments.Add(Device(input));
        arguments.Add(weight.Address);
        arguments.Add(new DeviceStored(output));
        arguments.Add(inverseRms.Address);
        arguments.Add(epsilon);
        Launch(RmsNormKernels, input, ref arguments);
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
        Launch(RmsNormBackwardInputKernels, input, ref arguments);
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

    private void Launch(RowKernels kernels, Tensor input, ref KernelArguments arguments)
    {
        bool warps = input.Columns <= ColumnsOfWarpRow;
        LaunchShape shape = warps ? new(new(Dim3.Cover(input.Rows, BlockThreads / WarpThreads)), new(BlockThreads))
            : Rows(input.Rows);
        Launch(warps ? kernels.Warp : kernels.Block, shape, ref arguments);
    }

    /// <summary>A kernel of rows in its two forms: a block a row, a warp a row.</summary>
    private sealed class RowKernels(KernelLibrary library, string name)
    {
        public CudaKernel Block { get; } = library.Kernel("Layers/Normalization.cu", name);

        public CudaKernel Warp { get; } = library.Kernel("Layers/Normalization.cu", name + "_rows");
    }
}
