using System.Runtime.InteropServices;

namespace Krewe.Gpu.Driver.Native;

/// <content>Memory, pools and copies.</content>
internal static unsafe partial class DriverApi
{
    [LibraryImport(Library)]
    internal static partial int cuMemGetInfo_v2(out nuint free, out nuint total);

    [LibraryImport(Library)]
    internal static partial int cuMemAlloc_v2(out nint address, nuint bytes);

    [LibraryImport(Library)]
    internal static partial int cuMemFree_v2(nint address);

    [LibraryImport(Library)]
    internal static partial int cuMemHostAlloc(out nint address, nuint bytes, uint flags);

    [LibraryImport(Library)]
    internal static partial int cuMemFreeHost(nint address);

    [LibraryImport(Library)]
    internal static partial int cuMemAllocFromPoolAsync(out nint address, nuint bytes, nint pool, nint stream);

    [LibraryImport(Library)]
    internal static partial int cuMemFreeAsync(nint address, nint stream);

    [LibraryImport(Library)]
    internal static partial int cuMemPoolCreate(out nint pool, MemoryPoolProperties* properties);

    [LibraryImport(Library)]
    internal static partial int cuMemPoolDestroy(nint pool);

    [LibraryImport(Library)]
    internal static partial int cuMemPoolSetAttribute(nint pool, MemoryPoolAttribute attribute, void* value);

    [LibraryImport(Library)]
    internal static partial int cuMemPoolGetAttribute(nint pool, MemoryPoolAttribute attribute, void* value);

    [LibraryImport(Library)]
    internal static partial int cuMemPoolTrimTo(nint pool, nuint bytesToKeep);

    [LibraryImport(Library)]
    internal static partial int cuMemPoolSetAccess(nint pool, MemoryAccess* map, nuint count);

    [LibraryImport(Library)]
    internal static partial int cuMemcpyAsync(nint destination, nint source, nuint bytes, nint stream);

    [LibraryImport(Library)]
    internal static partial int cuMemcpyHtoDAsync_v2(nint destination, nint source, nuint bytes, nint stream);

    [LibraryImport(Library)]
    internal static partial int cuMemcpyDtoHAsync_v2(nint destination, nint source, nuint bytes, nint stream);

    [LibraryImport(Library)]
    internal static partial int cuMemcpyPeerAsync(
        nint destination, nint destinationContext, nint source, nint sourceContext, nuint bytes, nint stream);

    [LibraryImport(Library)]
    internal static partial int cuMemsetD8Async(nint address, byte value, nuint count, nint stream);

    [LibraryImport(Library)]
    internal static partial int cuMemsetD32Async(nint address, uint value, nuint count, nint stream);
}

/// <summary>Where a pool takes its memory (CUmemPoolProps, 88 bytes).</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct MemoryPoolProperties
{
    /// <summary>CU_MEM_ALLOCATION_TYPE_PINNED.</summary>
    public const int Pinned = 1;

    /// <summary>CU_MEM_LOCATION_TYPE_DEVICE.</summary>
    public const int OnDevice = 1;

    public int AllocationType;
    public int HandleTypes;
    public int LocationType;
    public int LocationId;
    public nint SecurityAttributes;
    public nuint MaxSize;
    public ushort Usage;
    private fixed byte _reserved[54];
}

/// <summary>Who may do what with a pool's memory (CUmemAccessDesc).</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct MemoryAccess
{
    /// <summary>CU_MEM_ACCESS_FLAGS_PROT_READWRITE.</summary>
    public const int ReadWrite = 3;

    public int LocationType;
    public int LocationId;
    public int Flags;
}

/// <summary>Settings and counters of a pool (CUmemPool_attribute); all but the first are 64-bit.</summary>
internal enum MemoryPoolAttribute
{
    ReleaseThreshold = 4,
    ReservedBytes = 5,
    UsedBytes = 7,
    UsedHighBytes = 8,
}
