using System.Runtime.InteropServices;
using Krewe.Gpu.Devices;
using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>
/// Values of index tensors, looked at by kernels ahead of those that use them: those of a call in one launch, ahead of
/// the call's first kernel.
/// </content>
internal sealed partial class CudaKernels
{
    private const int CheckThreads = 1024;
    private const int IndicesOfThread = 4;
    private const int MostCheckBlocks = 64;

    /// <summary>Size of <c>Found</c> in <c>Checks.cu</c>.</summary>
    private const int IntegersOfFound = 4;

    private readonly List<DeviceIndexCheck> _indexChecks = [];
    private int _indexCheckBlocks;

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
        arguments.Add(Counters(IntegersOfFound));
        arguments.Add(Submission.Fault);
        Launch(CheckStarts, Rows(BlocksOf(starts), CheckThreads), ref arguments);
    }

    private void Check(Tensor indices, int limit, bool allowNegative, string name, KernelFaultKind kind)
    {
        if (indices.Count > 0 && Submission.IsToCheck(new(indices, limit, allowNegative, 0, kind)))
        {
            _indexChecks.Add(new(indices, limit, allowNegative, Submission.Number(name, indices.Columns), kind));
            _indexCheckBlocks = Math.Max(_indexCheckBlocks, BlocksOf(indices));
        }
    }

    /// <summary>Launches the checks that wait.</summary>
    private void LaunchChecks()
    {
        if (_indexChecks.Count == 0)
        {
            return;
        }

        var grid = new Dim3((uint)_indexChecks.Count, (uint)_indexCheckBlocks);
        Span<DeviceIndexCheck> checks = CollectionsMarshal.AsSpan(_indexChecks);
        OwnIndexChecks own = default;
        bool listed = checks.Length > OwnIndexChecks.Count;
        if (!listed)
        {
            checks.CopyTo(own);
        }

        KernelArguments arguments = new();
        arguments.Add(own);
        arguments.Add(listed ? Submission.Upload<DeviceIndexCheck>(checks, constant: true) : 0);
        _indexChecks.Clear();
        _indexCheckBlocks = 0;
        arguments.Add(Counters(IntegersOfFound));
        arguments.Add(Submission.Fault);
        Launch(CheckIndices, new(grid, new(CheckThreads)), ref arguments);
    }

    private static int BlocksOf(Tensor indices) =>
        (int)Math.Clamp(Dim3.Cover(indices.Count, CheckThreads * IndicesOfThread), 1, MostCheckBlocks);
}
