using Krewe.Gpu.Driver.Native;

namespace Krewe.Gpu.Driver;

/// <summary>Work of a device in the order of submission. Never waits for the legacy default stream.</summary>
/// <remarks>
/// What a thread records goes to a stream of its own, so that others submit to this one meanwhile: arenas take and give back
/// their memory on the threads of grains.
/// </remarks>
public sealed class CudaStream : IDisposable
{
    private const uint NonBlocking = 1;
    private const int CaptureThreadLocal = 1;
    private nint _handle;
    private volatile Recorder? _recorder;

    /// <summary>A stream of the current context.</summary>
    /// <param name="priority">0 is the lowest; lower numbers go first, as far as the device has levels.</param>
    public CudaStream(int priority = 0)
    {
        CudaResult.Check(DriverApi.cuStreamCreateWithPriority(out _handle, NonBlocking, priority));
    }

    /// <summary>The driver's handle; of the stream that records, for the thread that does.</summary>
    internal nint Handle => _recorder is { } recorder && recorder.Thread == Environment.CurrentManagedThreadId
        ? recorder.Handle
        : _handle;

    /// <summary>Priorities that the device has, the most urgent one first.</summary>
    public static (int Greatest, int Least) Priorities()
    {
        CudaResult.Check(DriverApi.cuCtxGetStreamPriorityRange(out int least, out int greatest));
        return (greatest, least);
    }

    /// <summary>True where all submitted work is done.</summary>
    public bool IsIdle
    {
        get
        {
            int code = DriverApi.cuStreamQuery(Handle);
            if (code != CudaResult.NotReady)
            {
                CudaResult.Check(code, "cuStreamQuery");
            }

            return code == CudaResult.Success;
        }
    }

    /// <summary>Waits until all submitted work is done, as <see cref="DeviceWait"/> does.</summary>
    /// <exception cref="CudaException">A kernel went wrong, or has not ended within the deadline.</exception>
    public void Synchronize()
    {
        DeviceWait.Until(this, static stream => stream.IsIdle, "cuStreamQuery");
        // Nothing is left to wait for; but only this tells a pool that what was given back is free.
        CudaResult.Check(DriverApi.cuStreamSynchronize(Handle));
    }

    /// <summary>What is submitted from now on starts after <paramref name="event"/>.</summary>
    public void WaitFor(CudaEvent @event) =>
        CudaResult.Check(DriverApi.cuStreamWaitEvent(Handle, @event.Handle, 0));

    /// <summary>True on the thread that records, between <see cref="BeginCapture"/> and the end of the recording.</summary>
    public bool IsCapturing => Handle != _handle;

    /// <summary>Records what this thread submits instead of running it, until <see cref="EndCapture"/>.</summary>
    /// <exception cref="InvalidOperationException">A thread records already.</exception>
    public void BeginCapture()
    {
        if (_recorder is not null)
        {
            throw new InvalidOperationException("a stream records for one thread at a time");
        }

        CudaResult.Check(DriverApi.cuStreamCreateWithPriority(out nint handle, NonBlocking, 0));
        int code = DriverApi.cuStreamBeginCapture_v2(handle, CaptureThreadLocal);
        if (code != CudaResult.Success)
        {
            _ = DriverApi.cuStreamDestroy_v2(handle);
            CudaResult.Check(code, "cuStreamBeginCapture_v2");
        }

        _recorder = new(Environment.CurrentManagedThreadId, handle);
    }

    /// <summary>Ends the recording and gives it as a graph that can be launched many times.</summary>
    public CudaGraph EndCapture()
    {
        int code = End(out nint graph);
        CudaResult.Check(code, "cuStreamEndCapture");
        return new(graph);
    }

    /// <summary>Ends the recording and drops it: something went wrong.</summary>
    public void AbandonCapture()
    {
        if (End(out nint graph) == CudaResult.Success && graph != 0)
        {
            _ = DriverApi.cuGraphDestroy(graph);
        }
    }

    private int End(out nint graph)
    {
        nint handle = Handle;
        _recorder = null;
        int code = DriverApi.cuStreamEndCapture(handle, out graph);
        _ = DriverApi.cuStreamDestroy_v2(handle);
        return code;
    }

    /// <summary>
    /// Copies bytes between host and device memory, or within one; the driver sees from the addresses what each is.
    /// A copy from or to pageable host memory is staged by the driver.
    /// </summary>
    public void Copy(nint source, nint destination, long bytes)
    {
        if (bytes > 0)
        {
            CudaResult.Check(DriverApi.cuMemcpyAsync(destination, source, (nuint)bytes, Handle), bytes);
        }
    }

    /// <summary>Copies bytes from one device's memory to another's.</summary>
    public void CopyPeer(nint source, CudaContext from, nint destination, CudaContext to, long bytes)
    {
        if (bytes > 0)
        {
            CudaResult.Check(
                DriverApi.cuMemcpyPeerAsync(destination, to.Handle, source, from.Handle, (nuint)bytes, Handle), bytes);
        }
    }

    /// <summary>Sets every byte of device memory to <paramref name="value"/>.</summary>
    public void Fill(nint address, byte value, long bytes)
    {
        if (bytes > 0)
        {
            CudaResult.Check(DriverApi.cuMemsetD8Async(address, value, (nuint)bytes, Handle), bytes);
        }
    }

    /// <summary>Lets the stream go; work in it still runs to its end.</summary>
    public void Dispose()
    {
        if (_handle != 0)
        {
            _ = DriverApi.cuStreamDestroy_v2(_handle);
            _handle = 0;
        }
    }

    /// <summary>A thread that records, and the stream that it submits to.</summary>
    private sealed record Recorder(int Thread, nint Handle);
}
