using System.Numerics;
using System.Runtime.InteropServices;

namespace Krewe.Grains.Devices.Channel;

/// <summary>
/// Native buffers in sizes of powers of two, kept for the next tensor: neither the garbage collector nor the kernel's
/// page faults see a tensor that waits here. Thread-safe.
/// </summary>
internal sealed unsafe class NativeBufferPool : IDisposable
{
    private const int SmallestBits = 12;
    private const int Alignment = 64;

    private readonly Lock _lock = new();
    private readonly Stack<nint>[] _free = [.. Enumerable.Range(0, 64).Select(_ => new Stack<nint>())];
    private long _bytes;
    private bool _rented;
    private bool _disposed;

    /// <summary>Bytes taken from the system, in use or kept.</summary>
    public long Bytes => Volatile.Read(ref _bytes);

    /// <summary>Takes a buffer of at least <paramref name="bytes"/>, uninitialised.</summary>
    public nint Rent(long bytes)
    {
        int bits = BitsOf(bytes);
        lock (_lock)
        {
            _rented = true;
            if (_free[bits].TryPop(out nint address))
            {
                return address;
            }

            address = (nint)NativeMemory.AlignedAlloc((nuint)1 << bits, Alignment);
            _bytes += 1L << bits;
            return address;
        }
    }

    /// <summary>Gives a buffer back; <paramref name="bytes"/> as it was asked for.</summary>
    public void Return(nint address, long bytes)
    {
        int bits = BitsOf(bytes);
        lock (_lock)
        {
            if (_disposed)
            {
                Free(address, bits);
            }
            else
            {
                _free[bits].Push(address);
            }
        }
    }

    /// <summary>Frees what is kept if nothing was taken since the last call.</summary>
    public void TrimIfIdle()
    {
        lock (_lock)
        {
            if (!_rented)
            {
                FreeKept();
            }

            _rented = false;
        }
    }

    /// <summary>Frees what is kept; a buffer still in use goes when it is returned.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            _disposed = true;
            FreeKept();
        }
    }

    private static int BitsOf(long bytes) =>
        Math.Max(SmallestBits, BitOperations.Log2((ulong)Math.Max(1, bytes - 1)) + 1);

    private void FreeKept()
    {
        for (int bits = 0; bits < _free.Length; bits++)
        {
            while (_free[bits].TryPop(out nint address))
            {
                Free(address, bits);
            }
        }
    }

    private void Free(nint address, int bits)
    {
        NativeMemory.AlignedFree((void*)address);
        _bytes -= 1L << bits;
    }
}
