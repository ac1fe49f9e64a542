using Krewe.Gpu.Driver;

namespace Krewe.Gpu.Devices;

/// <summary>
/// Page-locked host memory and as much device memory: what kernels need of the host, handed over in pieces.
/// </summary>
internal sealed class StagingBuffer(int bytes) : IDisposable
{
    private const int Alignment = 256;
    private readonly CudaPageLockedHostMemory<byte> _host = new(bytes);
    private readonly CudaDeviceVariable<byte> _device = new(bytes);
    private int _used;

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
