using System.Buffers;

namespace Krewe.Grains.Devices.Channel;

/// <summary>
/// Native memory as <see cref="Memory{T}"/>, so that sockets read and write tensors in place. One view serves one
/// transfer at a time: <see cref="At"/> points it elsewhere. It owns nothing.
/// </summary>
internal sealed unsafe class NativeView : MemoryManager<byte>
{
    private nint _address;
    private int _bytes;

    /// <summary>The bytes [address, address + bytes); valid until the next call.</summary>
    public Memory<byte> At(nint address, int bytes)
    {
        _address = address;
        _bytes = bytes;
        return CreateMemory(bytes);
    }

    /// <inheritdoc/>
    public override Span<byte> GetSpan() => new((void*)_address, _bytes);

    /// <inheritdoc/>
    public override MemoryHandle Pin(int elementIndex = 0) => new((byte*)_address + elementIndex);

    /// <inheritdoc/>
    public override void Unpin() { }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing) { }
}
