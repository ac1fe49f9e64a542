using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;

namespace Krewe.Gpu.Driver;

/// <summary>
/// Arguments of one launch, packed on the stack in the order of the kernel's parameters: values of any unmanaged type,
/// each with the layout that C gives it. The kernel's parameters decide how many bytes are read from each.
/// </summary>
public unsafe ref struct KernelArguments
{
    /// <summary>Most arguments of one launch.</summary>
    public const int MaxCount = 32;

    /// <summary>Most bytes of one launch's arguments.</summary>
    public const int MaxBytes = 1024;

    private Bytes _bytes;
    private Offsets _offsets;
    private int _used;

    /// <summary>Arguments so far.</summary>
    public int Count { get; private set; }

    /// <summary>The packed bytes so far.</summary>
    [UnscopedRef]
    public readonly ReadOnlySpan<byte> Packed => ((ReadOnlySpan<byte>)_bytes)[.._used];

    /// <summary>Adds the next argument.</summary>
    /// <exception cref="InvalidOperationException">There is no room left.</exception>
    public void Add<T>(T value) where T : unmanaged
    {
        int start = (_used + 15) / 16 * 16;
        if (Count == MaxCount || start + sizeof(T) > MaxBytes)
        {
            throw new InvalidOperationException(
                $"kernel arguments: room for {MaxCount} of {MaxBytes} bytes, asked for number {Count + 1} of "
                + $"{sizeof(T)} bytes behind {start}");
        }

        Unsafe.WriteUnaligned(ref _bytes[start], value);
        _offsets[Count++] = start;
        _used = start + sizeof(T);
    }

    /// <summary>Fills in the addresses of the arguments; valid as long as this struct stays where it is.</summary>
    [UnscopedRef]
    internal ref byte Addresses(scoped Span<nint> addresses)
    {
        ref byte first = ref _bytes[0];
        nint start = (nint)Unsafe.AsPointer(ref first);
        for (int i = 0; i < Count; i++)
        {
            addresses[i] = start + _offsets[i];
        }

        return ref first;
    }

    [InlineArray(MaxBytes)]
    private struct Bytes
    {
        private byte _first;
    }

    [InlineArray(MaxCount)]
    private struct Offsets
    {
        private int _first;
    }
}
