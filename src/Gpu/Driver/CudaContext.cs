using System.Runtime.InteropServices;
using System.Text;
using Krewe.Gpu.Driver.Native;

namespace Krewe.Gpu.Driver;

/// <summary>
/// The primary context of one device: the one that libraries beside Krewe share. A thread that calls CUDA makes it
/// current first (<see cref="SetCurrent"/>).
/// </summary>
public sealed unsafe class CudaContext : IDisposable
{
    private readonly int _device;
    private bool _disposed;

    /// <summary>Opens a device and makes its context current on this thread.</summary>
    /// <param name="deviceIndex">Number of the device, from 0.</param>
    /// <exception cref="CudaException">No driver, no such device, or the driver refuses.</exception>
    public CudaContext(int deviceIndex = 0)
    {
        DeviceIndex = deviceIndex;
        int count = CountDevices();
        if ((uint)deviceIndex >= (uint)count)
        {
            string found = count switch { 0 => "no GPU", 1 => "one GPU, cuda:0", _ => $"cuda:0 to cuda:{count - 1}" };
            throw new CudaException($"cuda:{deviceIndex}: this machine has {found}");
        }

        CudaResult.Check(DriverApi.cuDeviceGet(out _device, deviceIndex));
        CudaResult.Check(DriverApi.cuDevicePrimaryCtxRetain(out nint handle, _device));
        Handle = handle;
        byte* name = stackalloc byte[256];
        CudaResult.Check(DriverApi.cuDeviceGetName(name, 255, _device));
        DeviceName = Encoding.UTF8.GetString(MemoryMarshal.CreateReadOnlySpanFromNullTerminated(name));
        ComputeCapability = new(
            Attribute(DeviceAttribute.ComputeCapabilityMajor), Attribute(DeviceAttribute.ComputeCapabilityMinor));
        Multiprocessors = Attribute(DeviceAttribute.MultiprocessorCount);
        MaxSharedBytes = Attribute(DeviceAttribute.MaxSharedMemoryPerBlockOptin);
        SetCurrent();
    }

    /// <summary>Number of the device.</summary>
    public int DeviceIndex { get; }

    /// <summary>Name of the card.</summary>
    public string DeviceName { get; }

    /// <summary>Compute capability, such as 9.0.</summary>
    public Version ComputeCapability { get; }

    /// <summary>Streaming multiprocessors.</summary>
    public int Multiprocessors { get; }

    /// <summary>Largest shared memory of a block, after a kernel has asked for more than 48 KiB.</summary>
    public int MaxSharedBytes { get; }

    /// <summary>The driver's handle.</summary>
    internal nint Handle { get; }

    /// <summary>The driver's number of the device.</summary>
    internal int Device => _device;

    /// <summary>Number of GPUs; starts the driver.</summary>
    /// <exception cref="CudaException">There is no driver, or it cannot start.</exception>
    public static int CountDevices()
    {
        try
        {
            CudaResult.Check(DriverApi.cuInit(0));
            CudaResult.Check(DriverApi.cuDeviceGetCount(out int count));
            return count;
        }
        catch (DllNotFoundException exception)
        {
            throw new CudaException($"no CUDA on this machine: {exception.Message}", exception);
        }
    }

    /// <summary>Makes this context the calling thread's.</summary>
    public void SetCurrent() => CudaResult.Check(DriverApi.cuCtxSetCurrent(Handle));

    /// <summary>As <see cref="SetCurrent"/>, for finalisers: says false where the context is gone.</summary>
    internal bool TrySetCurrent() => !_disposed && DriverApi.cuCtxSetCurrent(Handle) == CudaResult.Success;

    /// <summary>Waits for everything submitted to the context.</summary>
    public void Synchronize()
    {
        SetCurrent();
        CudaResult.Check(DriverApi.cuCtxSynchronize());
    }

    /// <summary>Free and total memory of the device, in bytes.</summary>
    public (long FreeBytes, long TotalBytes) Memory()
    {
        SetCurrent();
        CudaResult.Check(DriverApi.cuMemGetInfo_v2(out nuint free, out nuint total));
        return ((long)free, (long)total);
    }

    /// <summary>True where kernels of this device can be let into the memory of <paramref name="peer"/>.</summary>
    public bool CanAccess(CudaContext peer)
    {
        CudaResult.Check(DriverApi.cuDeviceCanAccessPeer(out int can, _device, peer._device));
        return can != 0;
    }

    /// <summary>Lets kernels and copies of this context reach the memory of <paramref name="peer"/> directly.</summary>
    public void EnableAccess(CudaContext peer)
    {
        SetCurrent();
        int code = DriverApi.cuCtxEnablePeerAccess(peer.Handle, 0);
        if (code != CudaResult.PeerAccessAlreadyEnabled)
        {
            CudaResult.Check(code, "cuCtxEnablePeerAccess");
        }
    }

    /// <summary>Lets the primary context go; the driver frees it with its last user.</summary>
    public void Dispose()
    {
        if (!_disposed)
        {
            _disposed = true;
            _ = DriverApi.cuDevicePrimaryCtxRelease_v2(_device);
        }
    }

    private int Attribute(DeviceAttribute attribute)
    {
        CudaResult.Check(DriverApi.cuDeviceGetAttribute(out int value, attribute, _device));
        return value;
    }
}
