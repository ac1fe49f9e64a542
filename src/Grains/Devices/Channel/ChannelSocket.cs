using System.Net.Sockets;

namespace Krewe.Grains.Devices.Channel;

/// <summary>
/// A connected socket that speaks <see cref="ChannelMessage"/> and moves values between the wire and native memory. One
/// reader and one writer at a time.
/// </summary>
internal sealed class ChannelSocket(Socket socket) : IDisposable
{
    /// <summary>
    /// Small enough to be read for nothing, large enough for a burst of credits and for a small tensor at once.
    /// </summary>
    private const int ReadAheadBytes = 8192;

    /// <summary>
    /// A larger piece holds a thread of the pool for longer, and grain calls wait behind it. On 2 noisy cores 4 MiB at
    /// once was not clearly faster, and the p99 of grain calls during transfers was mostly longer; not measured alone.
    /// </summary>
    private const int SocketBufferBytes = 512 << 10;

    private const int PieceBytes = 128 << 10;

    private readonly byte[] _readAhead = new byte[ReadAheadBytes];
    private readonly NativeView _readView = new();
    private readonly NativeView _writeView = new();
    private int _start;
    private int _end;

    /// <summary>The other end, for messages.</summary>
    public string Endpoint { get; } = socket.AddressFamily == AddressFamily.Unix
        ? "a Unix-domain socket" : $"{socket.RemoteEndPoint}";

    /// <summary>Sets buffers and, for TCP, what makes small messages fast and dead machines noticed.</summary>
    public static void Tune(Socket socket)
    {
        socket.SendBufferSize = SocketBufferBytes;
        socket.ReceiveBufferSize = SocketBufferBytes;
        if (socket.AddressFamily == AddressFamily.Unix)
        {
            return;
        }

        socket.NoDelay = true;
        socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.KeepAlive, true);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveTime, 5);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveInterval, 2);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveRetryCount, 3);
    }

    /// <summary>Why reading or writing ended, for messages.</summary>
    public static string ReasonOf(Exception exception) =>
        exception is ObjectDisposedException or SocketException { SocketErrorCode: SocketError.OperationAborted }
            ? "the connection was closed on this side" : exception.Message;

    /// <summary>Reads the next message.</summary>
    /// <exception cref="ChannelException">The connection ended, or what came is no message.</exception>
    public async ValueTask<ChannelMessage> ReadMessageAsync(CancellationToken cancellationToken)
    {
        await FillAsync(ChannelMessage.PrefixBytes, cancellationToken).ConfigureAwait(false);
        int length = ChannelMessage.LengthOf(_readAhead.AsSpan(_start));
        await FillAsync(ChannelMessage.PrefixBytes + length, cancellationToken).ConfigureAwait(false);
        ChannelMessage message = ChannelMessage.Read(
            _readAhead.AsSpan(_start), _readAhead.AsMemory(_start + ChannelMessage.PrefixBytes, length));
        _start += ChannelMessage.PrefixBytes + length;
        return message;
    }

    /// <summary>
    /// Reads some of the values to <paramref name="address"/>, at most <paramref name="bytes"/>; cancelling it loses
    /// nothing that came.
    /// </summary>
    public async ValueTask<int> ReadSomeAsync(nint address, long bytes, CancellationToken cancellationToken)
    {
        int most = (int)Math.Min(bytes, PieceBytes);
        int ahead = Math.Min(_end - _start, most);
        if (ahead > 0)
        {
            _readAhead.AsSpan(_start, ahead).CopyTo(_readView.At(address, ahead).Span);
            _start += ahead;
            return ahead;
        }

        return Came(await socket.ReceiveAsync(_readView.At(address, most), SocketFlags.None, cancellationToken)
            .ConfigureAwait(false));
    }

    /// <summary>Reads a few bytes that follow the values.</summary>
    public async ValueTask<ulong> ReadChecksumAsync(CancellationToken cancellationToken)
    {
        await FillAsync(sizeof(ulong), cancellationToken).ConfigureAwait(false);
        ulong value = BitConverter.ToUInt64(_readAhead, _start);
        _start += sizeof(ulong);
        return value;
    }

    /// <summary>Sends managed bytes; on cancellation some may have gone.</summary>
    public ValueTask SendAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken) =>
        AllSentAsync(bytes, cancellationToken);

    /// <summary>Sends native memory in place.</summary>
    public async ValueTask SendAsync(nint address, long bytes, CancellationToken cancellationToken)
    {
        for (long sent = 0; sent < bytes; sent += PieceBytes)
        {
            Memory<byte> part = _writeView.At(address + (nint)sent, (int)Math.Min(PieceBytes, bytes - sent));
            await AllSentAsync(part, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => socket.Dispose();

    private async ValueTask AllSentAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        while (bytes.Length > 0)
        {
            int sent = await socket.SendAsync(bytes, SocketFlags.None, cancellationToken).ConfigureAwait(false);
            bytes = bytes[sent..];
        }
    }

    private async ValueTask FillAsync(int bytes, CancellationToken cancellationToken)
    {
        if (_end - _start >= bytes)
        {
            return;
        }

        _readAhead.AsSpan(_start, _end - _start).CopyTo(_readAhead);
        _end -= _start;
        _start = 0;
        while (_end < bytes)
        {
            _end += Came(await socket.ReceiveAsync(_readAhead.AsMemory(_end), SocketFlags.None, cancellationToken)
                .ConfigureAwait(false));
        }
    }

    private static int Came(int bytes) => bytes > 0 ? bytes : throw new ChannelException("the peer closed the connection");
}
