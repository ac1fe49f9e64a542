namespace Krewe.Grains.Interfaces.Devices;

/// <summary>
/// A tensor did not come or did not go: the peer is lost, refused or silent, or what came was broken. The message is
/// one line that names the operation, the peer and the ticket. The attempt that the tensor belongs to is over; a new
/// attempt may use the same peers.
/// </summary>
[GenerateSerializer, Alias("krewe.ChannelException")]
public sealed class ChannelException : Exception
{
    /// <summary>A fault described by <paramref name="message"/>.</summary>
    public ChannelException(string message) : base(message) { }

    /// <summary>A fault described by <paramref name="message"/>, caused by <paramref name="inner"/>.</summary>
    public ChannelException(string message, Exception? inner) : base(message, inner) { }
}
