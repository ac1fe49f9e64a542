using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>Kernels that pick, add and compare rows; <c>Rows.cu</c>.</content>
internal sealed partial class CudaKernels
{
    private CudaKernel SumRowsKernel => field ??= _library.Kernel("Rows.cu", "sum_rows");

    private CudaKernel GatherRowsKernel => field ??= _library.Kernel("Rows.cu", "gather_rows");

    private CudaKernel DotRowsKernel => field ??= _library.Kernel("Rows.cu", "dot_rows");

    private CudaKernel EmbeddingBackwardKernel => field ??= _library.Kernel("Rows.cu", "embedding_backward");

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
        Launch(SumRowsKernel, Rows(output.Rows), ref arguments);
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
        Launch(GatherRowsKernel, Rows(output.Rows), ref arguments);
    }

    /// <inheritdoc/>
    public void DotRows(Tensor left, Tensor leftRows, Tensor right, Tensor rightRows, Tensor output)
    {
        KernelChecks.DotRows(left, leftRows, right, rightRows, output, this);
        KernelArguments arguments = new();
        arguments.Add(Device(left));
        arguments.Add(leftRows.Address);
        arguments.Add(Device(right));
        arguments.Add(rightRows.Address);
        arguments.Add(output.Address);
        arguments.Add(Submission.Fault);
        Launch(DotRowsKernel, Rows(checked((int)output.Count)), ref arguments);
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
}
