using Krewe.Gpu.Driver;
using Krewe.Gpu.Kernels;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Devices;

/// <summary>
/// Work that is recorded as a graph: its first runs call the kernels, so that arenas have their memory and kernels are
/// compiled; then one records them, and every later run is one launch. What the kernels read of the host (lists of
/// products, index checks) goes to the device with the recording and stays there.
/// </summary>
/// <param name="device">Where.</param>
/// <param name="stream">Of the device.</param>
/// <param name="work">Calls the kernels.</param>
internal sealed class CudaRepeatedWork(CudaDevice device, CudaStream stream, Action<IKernels> work) : RepeatedWork
{
    /// <summary>Runs that call the kernels: the first takes memory in blocks, the second joins the blocks to one.</summary>
    private const int CalledRuns = 2;

    /// <summary>Lists of products of some thirty layers; no more can be had while recording.</summary>
    private const int StagingBytes = 32 << 20;

    private CudaSubmission? _own;
    private CudaGraph? _graph;
    private int _runs;

    /// <inheritdoc/>
    public override Task RunAsync(
        Action<IKernels> before, Action<IKernels> after, int times = 1, WorkPriority priority = default) =>
        device.SubmitAsync(
            static (kernels, run) =>
            {
                run.Before(kernels);
                run.Self.Run((CudaKernels)kernels, run.Times);
                run.After(kernels);
            },
            (Self: this, Before: before, After: after, Times: times), priority);

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing && _own is { } own)
        {
            CudaGraph? graph = _graph;
            (_graph, _own) = (null, null);
            try
            {
                // On the device's thread, behind all work that was submitted.
                _ = device.SubmitAsync(
                    _ =>
                    {
                        stream.Synchronize();
                        graph?.Dispose();
                        own.Dispose();
                    },
                    WorkPriority.Background);
            }
            catch (ObjectDisposedException)
            {
                // The device is closed, and its context has taken graph and memory with it.
            }
        }

        base.Dispose(disposing);
    }

    private void Run(CudaKernels kernels, int times)
    {
        for (; times > 0 && _runs < CalledRuns; times--, _runs++)
        {
            work(kernels);
            kernels.Complete();
        }

        if (times == 0)
        {
            return;
        }

        _graph ??= Record(kernels);
        // Ahead of all runs: those behind one that met a bad index do nothing, and its record stays.
        _own!.ClearFault();
        for (; times > 0; times--)
        {
            _graph.Launch(stream);
        }

        kernels.Submission.Watch(_own);
    }

    private CudaGraph Record(CudaKernels kernels)
    {
        kernels.Complete();
        CudaSubmission outer = kernels.Submission;
        using var copies = new CudaStream();
        _own ??= new(device.Context, stream, device.Loss, StagingBytes);
        _own.BeginRecording(copies);
        kernels.Submission = _own;
        try
        {
            stream.BeginCapture();
            try
            {
                work(kernels);
                kernels.Complete();
                _own.FetchFault();
            }
            catch
            {
                stream.AbandonCapture();
                throw;
            }

            CudaGraph graph = stream.EndCapture();
            copies.Synchronize();
            return graph;
        }
        finally
        {
            kernels.Submission = outer;
        }
    }
}
