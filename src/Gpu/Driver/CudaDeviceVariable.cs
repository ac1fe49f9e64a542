using System.Runtime.CompilerServices;
using Krewe.Gpu.Driver.Native;

namespace Krewe.Gpu.Driver;

/// <summary>An array in device memory with a life of its own; the hot path takes its memory from arenas.</summary>
/// <typeparam name="T">Element.</typeparam>
public sealed unsafe class CudaDeviceVariable<T> : IDisposable where T : unmanaged
{
    /// <summary>An uninitialised array in the current context.</summary>
    /// <param name="count">Elements, above 0.</param>
    /// <param name="purpose">Who asks; stands in the message when memory runs out.</param>
    /// <exception cref="CudaException">The device has no such block left.</exception>
    public CudaDeviceVariable(long count, string purpose = "a variable")
    {
        Count = count;
        CudaResult.CheckTaken(DriverApi.cuMemAlloc_v2(out nint address, (nuint)Bytes), Bytes, purpose);
        Address = address;
    }

    /// <summary>Device address of the first element.</summary>
    public nint Address { get; private set; }

    /// <summary>Number of elements.</summary>
    public long Count { get; }

    /// <summary>Size in bytes.</summary>
    public long Bytes => Count * Unsafe.SizeOf<T>();

    /// <summary>Copies from the host and waits for it.</summary>
    /// <exception cref="ArgumentException">Another number of elements.</exception>
    public void CopyToDevice(ReadOnlySpan<T> source, CudaStream stream)
    {
        CheckCount(source.Length, nameof(source));
        fixed (T* host = source)
        {
            stream.Copy((nint)host, Address, Bytes);
            stream.Synchronize();
        }
    }

    /// <summary>Copies to the host, behind what was submitted to <paramref name="stream"/>, and waits for it.</summary>
    /// <exception cref="ArgumentException">Another number of elements.</exception>
    public void CopyToHost(Span<T> destination, CudaStream stream)
    {
        CheckCount(destination.Length, nameof(destination));
        fixed (T* host = destination)
        {
            stream.Copy(Address, (nint)host, Bytes);
            stream.Synchronize();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (Address != 0)
        {
            _ = DriverApi.cuMemFree_v2(Address);
            Address = 0;
        }
    }

    private void CheckCount(int count, string name)
    {
        if (count != Count)
        {
            throw new ArgumentException($"{name}: expected {Count} elements, got {count}", name);
        }
    }
}
