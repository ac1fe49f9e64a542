namespace Krewe.Model.Tensors;

/// <summary>
/// An arena of blocks, wherever their memory lies. Blocks double from a small first one, so that a small arena stays
/// small; a tensor as large as the first block or larger gets one of exactly its size, and the block that small tensors
/// are carved off stays the same. A reset joins all into one block that holds what was used, so that the next use of the
/// same size neither asks the system nor wastes the ends of blocks.
/// </summary>
/// <param name="name">What lives here, for messages.</param>
/// <param name="firstBlockBytes">Smallest block to ask for.</param>
/// <param name="blockBytes">Largest block to ask for ahead of need.</param>
/// <param name="alignment">Of every tensor, in bytes; a power of two.</param>
/// <param name="reservedChanged">
/// Told every change of <see cref="ReservedBytes"/>, from any thread: a device's sum.
/// </param>
public abstract class BlockArena(
    string name, long firstBlockBytes, long blockBytes, int alignment, Action<long>? reservedChanged) : Arena
{
    private const long MostSpareBytes = 64L << 20;

    private readonly List<Block> _blocks = [];
    private long _offset;
    private long _used;

    private readonly record struct Block(nint Address, long Bytes);

    /// <summary>What lives here.</summary>
    public string Name { get; } = name;

    /// <summary>True where the host can reach the blocks.</summary>
    protected virtual bool OnHost => true;

    /// <summary>Alignment of every tensor in bytes.</summary>
    protected int Alignment { get; } = alignment;

    /// <inheritdoc/>
    public override long ReservedBytes => _blocks.Sum(block => block.Bytes);

    /// <inheritdoc/>
    public override long UsedBytes => _used;

    /// <inheritdoc/>
    public override Tensor Allocate(TensorShape shape, DType dtype = DType.Float32)
    {
        long bytes = (Math.Max(1, shape.Count * dtype.SizeInBytes()) + Alignment - 1) / Alignment * Alignment;
        nint address = Carve(bytes);
        _used += bytes;
        return new(address, shape, dtype, onHost: OnHost);
    }

    /// <inheritdoc/>
    public override void Reset()
    {
        if (_blocks.Count > 1)
        {
            // A quarter more than was used, within bounds: loads of experts change from step to step.
            long joined = _used + Math.Min(_used / 4, MostSpareBytes);
            FreeAll();
            _ = AddBlock(joined, 0);
        }

        _offset = 0;
        _used = 0;
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        FreeAll();
        Reset();
    }

    /// <summary>Takes memory from the system, aligned.</summary>
    /// <exception cref="KreweException">There is no such block left; the message names the arena and the bytes.
    /// </exception>
    protected abstract nint TakeBlock(long bytes);

    /// <summary>Gives a block back. Called by finalisers too: it does not throw.</summary>
    protected abstract void GiveBlock(nint address);

    private nint Carve(long bytes)
    {
        nint address;
        if (_blocks.Count > 0 && _offset + bytes <= _blocks[^1].Bytes)
        {
            address = _blocks[^1].Address + (nint)_offset;
            _offset += bytes;
        }
        else if (bytes < firstBlockBytes || _blocks.Count == 0)
        {
            address = AddBlock(Math.Max(bytes, Math.Clamp(ReservedBytes, firstBlockBytes, blockBytes)), _blocks.Count);
            _offset = bytes;
        }
        else
        {
            // Before the block that small tensors are carved off, which stays the last.
            address = AddBlock(bytes, _blocks.Count - 1);
        }

        return address;
    }

    private void FreeAll()
    {
        foreach (Block block in _blocks)
        {
            GiveBlock(block.Address);
            reservedChanged?.Invoke(-block.Bytes);
        }

        _blocks.Clear();
    }

    private nint AddBlock(long bytes, int index)
    {
        nint address = TakeBlock(bytes);
        _blocks.Insert(index, new(address, bytes));
        reservedChanged?.Invoke(bytes);
        return address;
    }
}
