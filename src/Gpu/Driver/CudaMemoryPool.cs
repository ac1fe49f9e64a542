using Krewe.Gpu.Driver.Native;

namespace Krewe.Gpu.Driver;

/// <summary>
/// Stream-ordered device memory: a block freed in a stream is handed out again to what comes later in it, without a
/// call that waits for the device. The pool keeps what it has taken until <see cref="Trim"/> or Dispose.
/// </summary>
public sealed unsafe class CudaMemoryPool : IDisposable
{
    private readonly CudaContext _context;
    private readonly MemoryLedger _ledger = new();
    private nint _handle;

    /// <summary>An empty pool on the device of <paramref name="context"/>.</summary>
    public CudaMemoryPool(CudaContext context)
    {
        _context = context;
        MemoryPoolProperties properties = new()
        {
            AllocationType = MemoryPoolProperties.Pinned,
            LocationType = MemoryPoolProperties.OnDevice,
            LocationId = context.Device,
        };
        CudaResult.Check(DriverApi.cuMemPoolCreate(out _handle, &properties));
        ulong keepAll = ulong.MaxValue;
        CudaResult.Check(DriverApi.cuMemPoolSetAttribute(_handle, MemoryPoolAttribute.ReleaseThreshold, &keepAll));
    }

    /// <summary>Bytes taken from the device.</summary>
    public long ReservedBytes => Read(MemoryPoolAttribute.ReservedBytes);

    /// <summary>Bytes handed out at present.</summary>
    public long UsedBytes => Read(MemoryPoolAttribute.UsedBytes);

    /// <summary>Most bytes that were handed out at one time.</summary>
    public long PeakBytes => Read(MemoryPoolAttribute.UsedHighBytes);

    /// <summary>Takes a block, usable by what is submitted to <paramref name="stream"/> from now on.</summary>
    /// <param name="bytes">Size, above 0.</param>
    /// <param name="stream">Stream that uses it.</param>
    /// <param name="purpose">Who asks; stands in the message when memory runs out.</param>
    /// <exception cref="CudaException">The device has no such block left: the message says who asked for how much,
    /// what this pool holds for whom, and what is free.</exception>
    public nint Allocate(long bytes, CudaStream stream, string purpose)
    {
        int code = DriverApi.cuMemAllocFromPoolAsync(out nint address, (nuint)bytes, _handle, stream.Handle);
        if (code == CudaResult.OutOfMemory)
        {
            // What was given back may lie in pieces: once the stream has let go of them, the device joins them.
            stream.Synchronize();
            Trim();
            code = DriverApi.cuMemAllocFromPoolAsync(out address, (nuint)bytes, _handle, stream.Handle);
        }

        if (code != CudaResult.Success)
        {
            throw Refused(code, bytes, purpose);
        }

        _ledger.Add(address, purpose, bytes);
        return address;
    }

    /// <summary>
    /// Gives a block back behind what was submitted to <paramref name="stream"/>. Says false, and throws nothing,
    /// where that is not possible: the pool or the stream is gone, and the block with it.
    /// </summary>
    public bool TryFree(nint address, CudaStream stream)
    {
        if (_handle == 0 || stream.Handle == 0)
        {
            return false;
        }

        // Before the driver may hand out the address anew.
        _ledger.Remove(address);
        return DriverApi.cuMemFreeAsync(address, stream.Handle) == CudaResult.Success;
    }

    /// <summary>
    /// Lets kernels and copies of another device reach the pool's memory, also what it will take yet.
    /// </summary>
    /// <exception cref="CudaException">The device cannot: see <see cref="CudaContext.CanAccess"/>.</exception>
    public void LetIn(CudaContext peer)
    {
        MemoryAccess access = new()
        {
            LocationType = MemoryPoolProperties.OnDevice,
            LocationId = peer.Device,
            Flags = MemoryAccess.ReadWrite,
        };
        CudaResult.Check(DriverApi.cuMemPoolSetAccess(_handle, &access, 1));
    }

    /// <summary>Gives the device back what is not handed out.</summary>
    public void Trim() => CudaResult.Check(DriverApi.cuMemPoolTrimTo(_handle, 0));

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_handle != 0)
        {
            _ = DriverApi.cuMemPoolDestroy(_handle);
            _handle = 0;
        }
    }

    private CudaException Refused(int code, long bytes, string purpose)
    {
        string detail = $"'{purpose}' asked for {bytes:N0} bytes";
        if (code == CudaResult.OutOfMemory)
        {
            (long free, long total) = _context.Memory();
            detail += $" on cuda:{_context.DeviceIndex}, which has {free:N0} of {total:N0} free; this process holds "
                + $"{ReservedBytes:N0}, of which in use: {_ledger}";
        }

        return new("cuMemAllocFromPoolAsync", code, CudaResult.ErrorName(code), detail) { Bytes = bytes };
    }

    private long Read(MemoryPoolAttribute attribute)
    {
        ulong value = 0;
        CudaResult.Check(DriverApi.cuMemPoolGetAttribute(_handle, attribute, &value));
        return (long)value;
    }
}
