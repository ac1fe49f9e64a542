using Krewe.Model.Tensors;

namespace Krewe.Grains.Devices.Channel;

/// <summary>A tensor in a pooled buffer that nobody asked for yet.</summary>
/// <param name="Source">The connection it came by; its sender gets the credit.</param>
/// <param name="Header">The message that announced it.</param>
/// <param name="Address">Dense values, in a buffer of the pool.</param>
/// <param name="Expires">Timestamp at which it is dropped.</param>
internal sealed record ArrivedTensor(IncomingConnection Source, ChannelMessage Header, nint Address, long Expires)
{
    /// <summary>Copies the values to a dense tensor of the same size.</summary>
    public unsafe void CopyTo(Tensor target) =>
        Buffer.MemoryCopy((void*)Address, (void*)target.Address, Header.Bytes, Header.Bytes);
}
