using System.Runtime.InteropServices;

namespace Krewe.Gpu.Driver.Native;

/// <summary>
/// The functions of the driver API that Krewe calls, under the names that the library exports (a suffix such as _v2 is
/// what the header's macro of the plain name means). Every one returns a code; <see cref="CudaResult"/> judges it.
/// </summary>
/// <remarks>Source: CUDA Driver API reference, version 12 and 13. Contexts and devices here.</remarks>
internal static unsafe partial class DriverApi
{
    private const string Library = CudaLibraries.DriverImport;

    [LibraryImport(Library)]
    internal static partial int cuInit(uint flags);

    [LibraryImport(Library)]
    internal static partial int cuGetErrorName(int code, out byte* name);

    [LibraryImport(Library)]
    internal static partial int cuGetErrorString(int code, out byte* text);

    [LibraryImport(Library)]
    internal static partial int cuDriverGetVersion(out int version);

    [LibraryImport(Library)]
    internal static partial int cuDeviceGetCount(out int count);

    [LibraryImport(Library)]
    internal static partial int cuDeviceGet(out int device, int ordinal);

    [LibraryImport(Library)]
    internal static partial int cuDeviceGetName(byte* name, int length, int device);

    [LibraryImport(Library)]
    internal static partial int cuDeviceTotalMem_v2(out nuint bytes, int device);

    [LibraryImport(Library)]
    internal static partial int cuDeviceGetAttribute(out int value, DeviceAttribute attribute, int device);

    [LibraryImport(Library)]
    internal static partial int cuDeviceCanAccessPeer(out int can, int device, int peer);

    [LibraryImport(Library)]
    internal static partial int cuDevicePrimaryCtxRetain(out nint context, int device);

    [LibraryImport(Library)]
    internal static partial int cuDevicePrimaryCtxRelease_v2(int device);

    [LibraryImport(Library)]
    internal static partial int cuCtxSetCurrent(nint context);

    [LibraryImport(Library)]
    internal static partial int cuCtxGetCurrent(out nint context);

    [LibraryImport(Library)]
    internal static partial int cuCtxSynchronize();

    [LibraryImport(Library)]
    internal static partial int cuCtxEnablePeerAccess(nint peerContext, uint flags);

    [LibraryImport(Library)]
    internal static partial int cuCtxGetStreamPriorityRange(out int least, out int greatest);
}

/// <summary>Properties of a device that Krewe reads (CUdevice_attribute).</summary>
internal enum DeviceAttribute
{
    MaxThreadsPerBlock = 1,
    MultiprocessorCount = 16,
    UnifiedAddressing = 41,
    ComputeCapabilityMajor = 75,
    ComputeCapabilityMinor = 76,
    MaxSharedMemoryPerBlockOptin = 97,
    MemoryPoolsSupported = 115,
    ClusterLaunch = 120,
}
