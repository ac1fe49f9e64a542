using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>Kernels that pick, add and compare rows; <c>Rows.cu</c>.</content>
internal sealed partial class CudaKernels
{
    private const int RowsOfBlock = 8;
    private const int ColumnsOfWarp = 1024;

    private CudaKernel SumRowsKernel => field ??= _library.Kernel("Layers/Rows.cu", "sum_rows");

    private CudaKernel GatherRowsKernel => field ??= _library.Kernel("Layers/Rows.cu", "gather_rows");

    private CudaKernel DotRowsKernel => field ??= _library.Kernel("Layers/Rows.cu", "dot_rows");

    private CudaKernel EmbeddingBackwardKernel => field ??= _library.Kernel("Layers/Rows.cu", "embedding_backward");

    /// <inheritdoc/>
    public void SumRows(
        Tensor source, Tensor rows, Tensor scale, Tensor starts, Tensor output, bool accumulate = false)
    {
        KernelChecks.SumRows(source, rows, scale, starts, output, this);
        KernelArguments arguments = new();
        arguments.Add(Device(source));
        arguments.Add(rows.Address);
        arguments.Add(scale.Address);
        arguments.Add(starts.Address);
        arguments.Add(Device(output));
        arguments.Add(accumulate ? 1 : 0);
        arguments.Add(Submission.Fault);
        Launch(SumRowsKernel, Warps(output.Rows, output.Columns), ref arguments);
    }

    /// <inheritdoc/>
    public void GatherRows(Tensor source, Tensor rows, Tensor scale, Tensor output)
    {
        KernelChecks.GatherRows(source, rows, scale, output, this);
        KernelArguments arguments = new();
        arguments.Add(Device(source));
        arguments.Add(rows.Address);
        arguments.Add(scale.Address);
        arguments.Add(Device(output));
        arguments.Add(Submission.Fault);
        Launch(GatherRowsKernel, Warps(output.Rows, output.Columns), ref arguments);
    }

    /// <inheritdoc/>
    public void DotRows(Tensor left, Tensor leftRows, Tensor right, Tensor rightRows, Tensor output)
    {
        KernelChecks.DotRows(left, leftRows, right, rightRows, output, this);
        int count = checked((int)output.Count);
        KernelArguments arguments = new();
        arguments.Add(Device(left));
        arguments.Add(leftRows.Address);
        arguments.Add(Device(right));
        arguments.Add(rightRows.Address);
        arguments.Add(output.Address);
        arguments.Add(count);
        arguments.Add(Submission.Fault);
        Launch(DotRowsKernel, Warps(count, ColumnsOfWarp), ref arguments);
    }

    /// <inheritdoc/>
    public void EmbeddingBackward(Tensor gradOutput, Tensor ids, Tensor gradTable)
    {
        KernelChecks.EmbeddingBackward(gradOutput, ids, gradTable, this);
        KernelArguments arguments = new();
        arguments.Add(Device(gradOutput));
        arguments.Add(ids.Address);
        arguments.Add(Device(gradTable));
        arguments.Add(Submission.Fault);
        var blocks = new Dim3((uint)gradOutput.Rows, Dim3.Cover(gradTable.Columns, BlockThreads));
        Launch(EmbeddingBackwardKernel, new(blocks, new(BlockThreads)), ref arguments);
    }

    /// <summary>A warp for each row and <see cref="ColumnsOfWarp"/> columns.</summary>
    private static LaunchShape Warps(int rows, int columns) => new(
        new(Dim3.Cover(rows, RowsOfBlock), Math.Max(1, Dim3.Cover(columns, ColumnsOfWarp))), new(BlockThreads));
}
