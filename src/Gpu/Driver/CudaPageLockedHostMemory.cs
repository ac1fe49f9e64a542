using System.Runtime.CompilerServices;
using Krewe.Gpu.Driver.Native;

namespace Krewe.Gpu.Driver;

/// <summary>
/// Host memory that stays where it is, so that a device can copy from and to it on its own and kernels can read it at
/// the same address.
/// </summary>
/// <typeparam name="T">Element.</typeparam>
public sealed unsafe class CudaPageLockedHostMemory<T> : IDisposable where T : unmanaged
{
    private const uint Portable = 1;
    private const uint DeviceMapped = 2;

    /// <summary>An uninitialised array.</summary>
    /// <param name="count">Elements, above 0.</param>
    /// <param name="purpose">Who asks; stands in the message when memory runs out.</param>
    /// <exception cref="CudaException">The system cannot lock that much.</exception>
    public CudaPageLockedHostMemory(int count, string purpose = "an array of the host")
    {
        Count = count;
        long bytes = (long)count * Unsafe.SizeOf<T>();
        CudaResult.CheckTaken(
            DriverApi.cuMemHostAlloc(out nint address, (nuint)bytes, Portable | DeviceMapped), bytes, purpose);
        Address = address;
    }

    /// <summary>Address for host and device.</summary>
    public nint Address { get; private set; }

    /// <summary>Number of elements.</summary>
    public int Count { get; }

    /// <summary>The elements.</summary>
    public Span<T> Span => new((void*)Address, Address == 0 ? 0 : Count);

    /// <inheritdoc/>
    public void Dispose()
    {
        if (Address != 0)
        {
            _ = DriverApi.cuMemFreeHost(Address);
            Address = 0;
        }
    }
}
