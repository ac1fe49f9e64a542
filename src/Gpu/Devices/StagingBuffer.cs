using Krewe.Gpu.Driver;

namespace Krewe.Gpu.Devices;

/// <summary>
/// Page-locked host memory and as much device memory: what kernels need of the host, handed over in pieces.
/// </summary>
internal sealed class StagingBuffer : IDisposable
{
    private const int Alignment = 256;
    private const string Purpose = "lists on their way to kernels";
    private readonly CudaPageLockedHostMemory<byte> _host;
    private readonly CudaDeviceVariable<byte> _device;
    private int _used;

    /// <summary>Takes the memory, in the current context.</summary>
    /// <exception cref="CudaException">Host or device has not so much left.</exception>
    public StagingBuffer(int bytes)
    {
        _host = new(bytes, Purpose);
        try
        {
            _device = new(bytes, Purpose);
        }
        catch (CudaException)
        {
            _host.Dispose();
            throw;
        }
    }

    /// <summary>Takes back every piece.</summary>
    public void Reset() => _used = 0;

    /// <summary>Takes the next piece, or says that it does not fit.</summary>
    public bool TryTake(int count, out StagingPiece piece)
    {
        if (_used + count > _host.Count)
        {
            piece = default;
            return false;
        }

        piece = new(_host.Address + _used, _device.Address + _used, count);
        _used = (_used + count + Alignment - 1) / Alignment * Alignment;
        return true;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _host.Dispose();
        _device.Dispose();
    }
}

/// <summary>A piece of a <see cref="StagingBuffer"/>.</summary>
/// <param name="Host">Its address on the host.</param>
/// <param name="Device">Its address on the device.</param>
/// <param name="Bytes">Its size.</param>
internal readonly record struct StagingPiece(nint Host, nint Device, int Bytes)
{
    /// <summary>Copies it to the device.</summary>
    public void ToDevice(CudaStream stream) => stream.Copy(Host, Device, Bytes);

    /// <summary>Copies it to the host.</summary>
    public void ToHost(CudaStream stream) => stream.Copy(Device, Host, Bytes);
}
