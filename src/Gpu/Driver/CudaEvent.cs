using Krewe.Gpu.Driver.Native;

namespace Krewe.Gpu.Driver;

/// <summary>A mark in a stream: to wait for, to query, or to time by.</summary>
public sealed class CudaEvent : IDisposable
{
    private const uint DisableTiming = 2;
    private nint _handle;

    /// <summary>An event of the current context.</summary>
    /// <param name="timing">Keeps the time, for <see cref="ElapsedMilliseconds"/>; costs the stream a little.</param>
    public CudaEvent(bool timing = false)
    {
        CudaResult.Check(DriverApi.cuEventCreate(out _handle, timing ? 0 : DisableTiming));
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

    /// <summary>Waits until the stream has passed the mark, as <see cref="DeviceWait"/> does.</summary>
    /// <exception cref="CudaException">A kernel went wrong, or has not ended within the deadline.</exception>
    public void Synchronize() => DeviceWait.Until(this, static mark => mark.IsDone, "cuEventQuery");

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
