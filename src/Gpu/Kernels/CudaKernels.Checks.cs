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
    private readonly List<DeviceIndexCheck> _indexChecks = [];

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
        if (indices.Count > 0)
        {
            _indexChecks.Add(new(indices, limit, allowNegative, Submission.Number(name, indices.Columns), kind));
        }
    }

    /// <summary>Launches the checks that wait.</summary>
    private void LaunchChecks()
    {
        if (_indexChecks.Count == 0)
        {
            return;
        }

        int count = _indexChecks.Count;
        nint checks = Submission.Upload<DeviceIndexCheck>(
            CollectionsMarshal.AsSpan(_indexChecks), constant: true);
        _indexChecks.Clear();
        KernelArguments arguments = new();
        arguments.Add(checks);
        arguments.Add(count > 1 ? Zeroed(count + 1) : 0);
        arguments.Add(Submission.Fault);
        Launch(CheckIndices, Rows(count, CheckThreads), ref arguments);
    }

    /// <summary>Room for integers that are zero.</summary>
    private nint Zeroed(int count)
    {
        StagingPiece piece = Submission.Take(count * sizeof(int));
        _stream.Fill(piece.Device, 0, piece.Bytes);
        return piece.Device;
    }
}
