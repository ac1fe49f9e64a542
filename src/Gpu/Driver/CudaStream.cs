using Krewe.Gpu.Driver.Native;

namespace Krewe.Gpu.Driver;

/// <summary>Work of a device in the order of submission. Never waits for the legacy default stream.</summary>
public sealed class CudaStream : IDisposable
{
    private const uint NonBlocking = 1;
    private const int CaptureThreadLocal = 1;
    private nint _handle;

    /// <summary>A stream of the current context.</summary>
    /// <param name="priority">0 is the lowest; lower numbers go first, as far as the device has levels.</param>
    public CudaStream(int priority = 0)
    {
        CudaResult.Check(DriverApi.cuStreamCreateWithPriority(out _handle, NonBlocking, priority));
    }

    /// <summary>The driver's handle.</summary>
    internal nint Handle => _handle;

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
            int code = DriverApi.cuStreamQuery(_handle);
            if (code != CudaResult.NotReady)
            {
                CudaResult.Check(code, "cuStreamQuery");
            }

            return code == CudaResult.Success;
        }
    }

    /// <summary>Blocks the thread until all submitted work is done.</summary>
    public void Synchronize() => CudaResult.Check(DriverApi.cuStreamSynchronize(_handle));

    /// <summary>What is submitted from now on starts after <paramref name="event"/>.</summary>
    public void WaitFor(CudaEvent @event) =>
        CudaResult.Check(DriverApi.cuStreamWaitEvent(_handle, @event.Handle, 0));

    /// <summary>True between <see cref="BeginCapture"/> and the end of the recording.</summary>
    public bool IsCapturing { get; private set; }

    /// <summary>Records what this thread submits instead of running it, until <see cref="EndCapture"/>.</summary>
    public void BeginCapture()
    {
        CudaResult.Check(DriverApi.cuStreamBeginCapture_v2(_handle, CaptureThreadLocal));
        IsCapturing = true;
    }

    /// <summary>Ends the recording and gives it as a graph that can be launched many times.</summary>
    public CudaGraph EndCapture()
    {
        IsCapturing = false;
        CudaResult.Check(DriverApi.cuStreamEndCapture(_handle, out nint graph));
        return new(graph);
    }

    /// <summary>Ends the recording and drops it: something went wrong.</summary>
    public void AbandonCapture()
    {
        IsCapturing = false;
        if (DriverApi.cuStreamEndCapture(_handle, out nint graph) == CudaResult.Success && graph != 0)
        {
            _ = DriverApi.cuGraphDestroy(graph);
        }
    }

    /// <summary>
    /// Copies bytes between host and device memory, or within one; the driver sees from the addresses what each is.
    /// A copy from or to pageable host memory is staged by the driver.
    /// </summary>
    public void Copy(nint source, nint destination, long bytes)
    {
        if (bytes > 0)
        {
            CudaResult.Check(DriverApi.cuMemcpyAsync(destination, source, (nuint)bytes, _handle), bytes);
        }
    }

    /// <summary>Copies bytes from one device's memory to another's.</summary>
    public void CopyPeer(nint source, CudaContext from, nint destination, CudaContext to, long bytes)
    {
        if (bytes > 0)
        {
            CudaResult.Check(
                DriverApi.cuMemcpyPeerAsync(destination, to.Handle, source, from.Handle, (nuint)bytes, _handle), bytes);
        }
    }

    /// <summary>Sets every byte of device memory to <paramref name="value"/>.</summary>
    public void Fill(nint address, byte value, long bytes)
    {
        if (bytes > 0)
        {
            CudaResult.Check(DriverApi.cuMemsetD8Async(address, value, (nuint)bytes, _handle), bytes);
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
}
