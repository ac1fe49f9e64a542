using Krewe.Gpu.Driver;
using Krewe.Gpu.Driver.Native;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Devices;

/// <summary>An arena in page-locked host memory, which the device copies from and to on its own.</summary>
/// <remarks>A block is given back only when no copy uses it any more: the driver does not wait.</remarks>
internal sealed class PageLockedArena(string name, CudaContext context, DeviceLoss loss)
    : BlockArena(name, FirstBlockBytes, LargestBlockBytes, HostAlignment, null)
{
    private const uint Portable = 1;
    private const long FirstBlockBytes = 64L << 10;
    private const long LargestBlockBytes = 64L << 20;
    private const int HostAlignment = 256;

    /// <summary>Frees the blocks of an arena that nobody disposed.</summary>
    ~PageLockedArena() => Dispose(false);

    /// <inheritdoc/>
    protected override nint TakeBlock(long bytes)
    {
        loss.ThrowIfLost();
        try
        {
            context.SetCurrent();
            CudaResult.CheckTaken(DriverApi.cuMemHostAlloc(out nint address, (nuint)bytes, Portable), bytes, Name);
            return address;
        }
        catch (CudaException exception) when (exception.LosesDevice)
        {
            throw LostDevice.Judge(loss, exception);
        }
    }

    /// <inheritdoc/>
    protected override void GiveBlock(nint address)
    {
        _ = context.TrySetCurrent() && DriverApi.cuMemFreeHost(address) == CudaResult.Success;
    }
}
