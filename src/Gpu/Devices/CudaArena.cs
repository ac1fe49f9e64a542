using Krewe.Gpu.Driver;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Devices;

/// <summary>
/// An arena in device memory. The host cannot reach its tensors: <see cref="CudaDevice.CopyAsync"/> carries values in
/// and out. Blocks are taken and given back in the order of the device's stream, so a block that kernels still use may
/// be given back.
/// </summary>
internal sealed class CudaArena(
    string name, CudaContext context, CudaMemoryPool pool, CudaStream stream, DeviceLoss loss,
    Action<long> reservedChanged)
    : BlockArena(name, FirstBlockBytes, LargestBlockBytes, DeviceAlignment, reservedChanged)
{
    private const long FirstBlockBytes = 1L << 20;
    private const long LargestBlockBytes = 256L << 20;

    /// <summary>What tensor maps, vector loads and whole cache lines want.</summary>
    private const int DeviceAlignment = 256;

    /// <summary>Frees the blocks of an arena that nobody disposed.</summary>
    ~CudaArena() => Dispose(false);

    /// <inheritdoc/>
    protected override bool OnHost => false;

    /// <inheritdoc/>
    protected override nint TakeBlock(long bytes)
    {
        if (stream.IsCapturing)
        {
            throw new InvalidOperationException(
                $"'{Name}' asked for {bytes:N0} bytes while work was recorded: repeated work takes the same memory each time");
        }

        loss.ThrowIfLost();
        try
        {
            context.SetCurrent();
            return pool.Allocate(bytes, stream, Name);
        }
        catch (CudaException exception) when (exception.LosesDevice)
        {
            throw LostDevice.Judge(loss, exception);
        }
    }

    /// <inheritdoc/>
    protected override void GiveBlock(nint address)
    {
        _ = context.TrySetCurrent() && pool.TryFree(address, stream);
    }
}
