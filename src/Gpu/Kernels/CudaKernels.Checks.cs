using Krewe.Gpu.Devices;
using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>Values of index tensors, looked at by kernels ahead of those that use them.</content>
internal sealed partial class CudaKernels
{
    private const int CheckThreads = 1024;

    private CudaKernel CheckIndices => field ??= _library.Kernel("Checks.cu", "check_indices");

    private CudaKernel CheckStarts => field ??= _library.Kernel("Checks.cu", "check_starts");

    /// <inheritdoc/>
    void IIndexChecks.RowNumbers(Tensor rows, int limit, bool allowNegative, string name) =>
        Check(rows, limit, allowNegative, name, KernelFaultKind.Row);

    /// <inheritdoc/>
    void IIndexChecks.Experts(Tensor indices, int experts) =>
        Check(indices, experts, false, nameof(indices), KernelFaultKind.Expert);

    /// <inheritdoc/>
    void IIndexChecks.Starts(Tensor starts, int total, string name)
    {
        KernelArguments arguments = new();
        arguments.Add(Device(starts));
        arguments.Add(total);
        arguments.Add(Submission.Number(name, starts.Columns));
        arguments.Add(Submission.Fault);
        Launch(CheckStarts, Rows(1, CheckThreads), ref arguments);
    }

    private void Check(Tensor indices, int limit, bool allowNegative, string name, KernelFaultKind kind)
    {
        if (indices.Count == 0)
        {
            return;
        }

        KernelArguments arguments = new();
        arguments.Add(Device(indices));
        arguments.Add(limit);
        arguments.Add(allowNegative ? 1 : 0);
        arguments.Add(Submission.Number(name, indices.Columns));
        arguments.Add((int)kind);
        arguments.Add(Submission.Fault);
        Launch(CheckIndices, Rows(1, CheckThreads), ref arguments);
    }
}
