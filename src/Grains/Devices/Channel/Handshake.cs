using System.Buffers;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;

namespace Krewe.Grains.Devices.Channel;

/// <summary>
/// The greeting: each side proves to the other that it knows the receiver's token, over fresh nonces of both, so that
/// the token itself never crosses the wire and neither a stranger who connects nor one who listens on a dead silo's
/// port sees a tensor. Constant-time comparison. The values themselves are not encrypted.
/// </summary>
internal static class Handshake
{
    private static readonly TimeSpan FaultDeadline = TimeSpan.FromMilliseconds(100);

    /// <summary>What the receiver learned: who sends.</summary>
    public readonly record struct Sender(Guid Incarnation, string Silo);

    /// <summary>Greets as the sender; returns the window in bytes.</summary>
    /// <param name="socket">A fresh connection.</param>
    /// <param name="self">Incarnation of this side.</param>
    /// <param name="silo">Name of this side.</param>
    /// <param name="peer">Who should listen.</param>
    /// <param name="cancellationToken">The deadline.</param>
    /// <exception cref="ChannelException">Refused, or another process listens there.</exception>
    public static async Task<long> GreetAsync(
        ChannelSocket socket, Guid self, string silo, ChannelAddress peer, CancellationToken cancellationToken)
    {
        byte[] nonce = RandomNumberGenerator.GetBytes(ChannelMessage.SecretBytes);
        await SendAsync(socket, Greeting(MessageKind.Hello, self, silo, nonce), cancellationToken).ConfigureAwait(false);
        ChannelMessage challenge = await ReadAsync(socket, MessageKind.Challenge, cancellationToken).ConfigureAwait(false);
        if (challenge.Incarnation != peer.Incarnation)
        {
            throw new ChannelException($"another incarnation listens there, {challenge.Text} {challenge.Incarnation:N}");
        }

        var transcript = new Transcript(nonce, challenge.Secret, self, peer.Incarnation);
        byte[] proof = Proof(peer.Token, "sender", transcript);
        await SendAsync(socket, Greeting(MessageKind.Proof, self, silo, proof), cancellationToken).ConfigureAwait(false);
        ChannelMessage welcome = await ReadAsync(socket, MessageKind.Welcome, cancellationToken).ConfigureAwait(false);
        return CryptographicOperations.FixedTimeEquals(welcome.Secret, Proof(peer.Token, "receiver", transcript))
            ? welcome.Bytes
            : throw new ChannelException("the listener does not know its own token");
    }

    /// <summary>Hears a sender out.</summary>
    /// <param name="socket">A fresh connection.</param>
    /// <param name="self">The address that this side gave out.</param>
    /// <param name="cancellationToken">The deadline.</param>
    /// <returns>Who sends, and the message that admits it once the window is set.</returns>
    /// <exception cref="ChannelException">It does not know the token.</exception>
    public static async Task<(Sender Sender, ChannelMessage Welcome)> AcceptAsync(
        ChannelSocket socket, ChannelAddress self, CancellationToken cancellationToken)
    {
        byte[] nonce = RandomNumberGenerator.GetBytes(ChannelMessage.SecretBytes);
        ChannelMessage hello = await ReadAsync(socket, MessageKind.Hello, cancellationToken).ConfigureAwait(false);
        ChannelMessage challenge = Greeting(MessageKind.Challenge, self.Incarnation, self.Silo, nonce);
        await SendAsync(socket, challenge, cancellationToken).ConfigureAwait(false);
        ChannelMessage proof = await ReadAsync(socket, MessageKind.Proof, cancellationToken).ConfigureAwait(false);
        var transcript = new Transcript(hello.Secret, nonce, hello.Incarnation, self.Incarnation);
        if (!CryptographicOperations.FixedTimeEquals(proof.Secret, Proof(self.Token, "sender", transcript)))
        {
            throw new ChannelException("wrong token");
        }

        return (new(hello.Incarnation, hello.Text), Greeting(
            MessageKind.Welcome, self.Incarnation, self.Silo, Proof(self.Token, "receiver", transcript)));
    }

    /// <summary>Sends one message.</summary>
    public static ValueTask SendAsync(ChannelSocket socket, ChannelMessage message, CancellationToken cancellationToken)
    {
        var bytes = new ArrayBufferWriter<byte>(256);
        message.WriteTo(bytes);
        return socket.SendAsync(bytes.WrittenMemory, cancellationToken);
    }

    /// <summary>Tells a sender why it is cut off; it may not listen any more.</summary>
    public static async Task TellFaultAsync(ChannelSocket socket, string reason)
    {
        using var deadline = new CancellationTokenSource(FaultDeadline);
        try
        {
            ChannelMessage fault = Greeting(MessageKind.Fault, Guid.Empty, "", []) with { Text = reason };
            await SendAsync(socket, fault, deadline.Token).ConfigureAwait(false);
        }
        catch (Exception exception) when (exception is SocketException or ObjectDisposedException or OperationCanceledException)
        {
            // It will see the end of the connection instead.
        }
    }

    private static ChannelMessage Greeting(MessageKind kind, Guid incarnation, string silo, byte[] secret) =>
        new(kind) { Protocol = ChannelMessage.Version, Incarnation = incarnation, Text = silo, Secret = secret };

    private static async Task<ChannelMessage> ReadAsync(
        ChannelSocket socket, MessageKind expected, CancellationToken cancellationToken)
    {
        ChannelMessage message = await socket.ReadMessageAsync(cancellationToken).ConfigureAwait(false);
        return message.Kind == MessageKind.Fault ? throw new ChannelException($"refused: {message.Text}")
            : message.Kind != expected ? throw new ChannelException($"a {message.Kind} message where {expected} belongs")
            : message.Protocol != ChannelMessage.Version
                ? throw new ChannelException($"protocol {message.Protocol}, this silo speaks {ChannelMessage.Version}")
            : message.Secret.Length != ChannelMessage.SecretBytes
                ? throw new ChannelException($"a secret of {message.Secret.Length} bytes, not {ChannelMessage.SecretBytes}")
            : message;
    }

    private static byte[] Proof(string token, string role, Transcript transcript) => HMACSHA256.HashData(
        Encoding.UTF8.GetBytes(token),
        (byte[])[.. Encoding.UTF8.GetBytes(role), .. transcript.SenderNonce, .. transcript.ReceiverNonce,
            .. transcript.Sender.ToByteArray(), .. transcript.Receiver.ToByteArray()]);

    private readonly record struct Transcript(byte[] SenderNonce, byte[] ReceiverNonce, Guid Sender, Guid Receiver);
}
