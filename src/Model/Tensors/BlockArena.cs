namespace Krewe.Model.Tensors;

/// <summary>
/// An arena of blocks, wherever their memory lies. Blocks double from a small first one, so that a small arena stays
/// small; a reset joins them into one block that holds all that was used, so that the next use of the same size neither
/// asks the system nor wastes the ends of blocks.
/// </summary>
/// <param name="name">What lives here, for messages.</param>
/// <param name="firstBlockBytes">Smallest block to ask for.</param>
/// <param name="blockBytes">
/// Largest block to ask for ahead of need; a larger tensor gets a block of its own size.
/// </param>
/// <param name="alignment">Of every tensor, in bytes; a power of two.</param>
/// <param name="reservedChanged">
/// Told every change of <see cref="ReservedBytes"/>, from any thread: a device's sum.
/// </param>
public abstract class BlockArena(
    string name, long firstBlockBytes, long blockBytes, int alignment, Action<long>? reservedChanged) : Arena
{
    private readonly List<Block> _blocks = [];
    private int _current;
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
        while (_current < _blocks.Count && _offset + bytes > _blocks[_current].Bytes)
        {
            _current++;
            _offset = 0;
        }

        if (_current == _blocks.Count)
        {
            AddBlock(Math.Max(bytes, Math.Clamp(ReservedBytes, firstBlockBytes, blockBytes)));
        }

        nint address = _blocks[_current].Address + (nint)_offset;
        _offset += bytes;
        _used += bytes;
        return new(address, shape, dtype, onHost: OnHost);
    }

    /// <inheritdoc/>
    public override void Reset()
    {
        if (_blocks.Count > 1)
        {
            // A quarter more than was used: loads of experts change from step to step.
            long joined = _used + (_used / 4);
            FreeAll();
            AddBlock(joined);
        }

        _current = 0;
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

    private void FreeAll()
    {
        foreach (Block block in _blocks)
        {
            GiveBlock(block.Address);
            reservedChanged?.Invoke(-block.Bytes);
        }

        _blocks.Clear();
    }

    private void AddBlock(long bytes)
    {
        _blocks.Add(new(TakeBlock(bytes), bytes));
        reservedChanged?.Invoke(bytes);
        _offset = 0;
    }
}
