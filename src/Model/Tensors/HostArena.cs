using System.Runtime.InteropServices;

namespace Krewe.Model.Tensors;

/// <summary>
/// An arena in host memory: aligned blocks outside the garbage-collected heap. Blocks double from a small first one, so
/// that a small arena stays small; a reset joins them into one block that holds all that was used, so that the next use
/// of the same size neither asks the system nor wastes the ends of blocks.
/// </summary>
/// <param name="name">What lives here, for messages.</param>
/// <param name="blockBytes">
/// Largest block to ask for ahead of need; a larger tensor gets a block of its own size.
/// </param>
/// <param name="reservedChanged">
/// Told every change of <see cref="ReservedBytes"/>, from any thread: a device's sum.
/// </param>
public sealed unsafe class HostArena(
    string name, long blockBytes = HostArena.DefaultBlockBytes, Action<long>? reservedChanged = null) : Arena
{
    /// <summary>Default block size: 4 MiB.</summary>
    public const long DefaultBlockBytes = 4L << 20;

    private const int Alignment = 64;
    private const long FirstBlockBytes = 16L << 10;

    private readonly List<Block> _blocks = [];
    private int _current;
    private long _offset;
    private long _used;

    private readonly record struct Block(nint Address, long Bytes);

    /// <inheritdoc/>
    public override long ReservedBytes => _blocks.Sum(block => block.Bytes);

    /// <inheritdoc/>
    public override long UsedBytes => _used;

    /// <inheritdoc/>
    public override Tensor Allocate(TensorShape shape, DType dtype = DType.Float32)
    {
        long bytes = (Math.Max(1, shape.Count * dtype.SizeInBytes()) + Alignment - 1) / Alignment * Alignment;
        while (_current < _blocks.Count && _offset + bytes > _blocks[_current].Bytes)
        {
            _current++;
            _offset = 0;
        }

        if (_current == _blocks.Count)
        {
            AddBlock(Math.Max(bytes, Math.Clamp(ReservedBytes, FirstBlockBytes, blockBytes)));
        }

        nint address = _blocks[_current].Address + (nint)_offset;
        _offset += bytes;
        _used += bytes;
        return new(address, shape, dtype);
    }

    /// <inheritdoc/>
    public override void Reset()
    {
        if (_blocks.Count > 1)
        {
            // A quarter more than was used: loads of experts change from step to step.
            long joined = _used + (_used / 4);
            Free();
            AddBlock(joined);
        }

        _current = 0;
        _offset = 0;
        _used = 0;
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        Free();
        Reset();
    }

    /// <summary>Frees the blocks of an arena that nobody disposed.</summary>
    ~HostArena() => Dispose(false);

    private void Free()
    {
        foreach (Block block in _blocks)
        {
            NativeMemory.AlignedFree((void*)block.Address);
            reservedChanged?.Invoke(-block.Bytes);
        }

        _blocks.Clear();
    }

    private void AddBlock(long bytes)
    {
        try
        {
            _blocks.Add(new((nint)NativeMemory.AlignedAlloc((nuint)bytes, Alignment), bytes));
            reservedChanged?.Invoke(bytes);
        }
        catch (OutOfMemoryException exception)
        {
            throw new KreweException(
                $"arena '{name}' asked for {bytes:N0} bytes and holds {ReservedBytes:N0}", exception);
        }

        _offset = 0;
    }
}
