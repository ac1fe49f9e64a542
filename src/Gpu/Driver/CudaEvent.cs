using Krewe.Gpu.Driver.Native;

namespace Krewe.Gpu.Driver;

/// <summary>A mark in a stream: to wait for, to query, or to time by.</summary>
public sealed class CudaEvent : IDisposable
{
    private const uint BlockingSync = 1;
    private const uint DisableTiming = 2;

    /// <summary>Looks without a sleep between them, some 20 us, before <see cref="Await"/> sleeps.</summary>
    private const int Spins = 10;
    private const int SleepMicroseconds = 20;
    private nint _handle;

    /// <summary>An event of the current context.</summary>
    /// <param name="timing">Keeps the time, for <see cref="ElapsedMilliseconds"/>; costs the stream a little.</param>
    public CudaEvent(bool timing = false)
    {
        CudaResult.Check(DriverApi.cuEventCreate(out _handle, BlockingSync | (timing ? 0 : DisableTiming)));
    }

    /// <summary>The driver's handle.</summary>
    internal nint Handle => _handle;

    /// <summary>True where the stream has passed the mark, or none was set.</summary>
    public bool IsDone
    {
        get
        {
            int code = DriverApi.cuEventQuery(_handle);
            if (code != CudaResult.NotReady)
            {
                CudaResult.Check(code, "cuEventQuery");
            }

            return code == CudaResult.Success;
        }
    }

    /// <summary>Sets the mark behind everything submitted to <paramref name="stream"/> so far.</summary>
    public void Record(CudaStream stream) => CudaResult.Check(DriverApi.cuEventRecord(_handle, stream.Handle));

    /// <summary>Sleeps until the stream has passed the mark.</summary>
    public void Synchronize() => CudaResult.Check(DriverApi.cuEventSynchronize(_handle));

    /// <summary>
    /// As <see cref="Synchronize"/>, but looks every 80 us or so where the system can sleep that short: for whom the next work
    /// waits. The driver wakes a sleeper by an interrupt, which on a virtual machine with an H100 came 60 us late as a rule and
    /// 2 ms late at times. Costs the thread some 1 % of a core while it waits.
    /// </summary>
    public void Await()
    {
        if (!ShortSleep.IsSupported)
        {
            Synchronize();
            return;
        }

        for (int look = 0; !IsDone; look++)
        {
            if (look >= Spins)
            {
                ShortSleep.Microseconds(SleepMicroseconds);
            }
        }
    }

    /// <summary>Time from this mark to <paramref name="end"/>; both made with timing, both passed.</summary>
    public double ElapsedMilliseconds(CudaEvent end)
    {
        CudaResult.Check(DriverApi.cuEventElapsedTime(out float milliseconds, _handle, end._handle));
        return milliseconds;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_handle != 0)
        {
            _ = DriverApi.cuEventDestroy_v2(_handle);
            _handle = 0;
        }
    }
}
