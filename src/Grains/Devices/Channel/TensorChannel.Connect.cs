using System.Net;
using System.Net.Sockets;

namespace Krewe.Grains.Devices.Channel;

/// <content>Connections to receivers.</content>
public sealed partial class TensorChannel
{
    /// <summary>The open connection to a peer, or a new one; all who ask meanwhile share it.</summary>
    private Task<OutgoingConnection> ConnectionTo(ChannelAddress peer)
    {
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            if (_outgoing.TryGetValue(peer.Incarnation, out Task<OutgoingConnection>? open) && !IsBroken(open))
            {
                return open;
            }

            using AsyncFlowControl flow = ExecutionContext.SuppressFlow();
            Task<OutgoingConnection> connecting = Task.Run(() => ConnectAsync(peer));
            _outgoing[peer.Incarnation] = connecting;
            return connecting;
        }
    }

    private async Task<OutgoingConnection> ConnectAsync(ChannelAddress peer)
    {
        bool isLocal = peer.Host == MachineIdentity.Value && File.Exists(peer.UnixSocket);
        Socket socket = isLocal
            ? new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified)
            : new(SocketType.Stream, ProtocolType.Tcp);
        ChannelSocket? channel = null;
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(_stop.Token);
        deadline.CancelAfter(_options.ConnectDeadline);
        try
        {
            ChannelSocket.Tune(socket);
            EndPoint endpoint = isLocal
                ? new UnixDomainSocketEndPoint(peer.UnixSocket!) : new DnsEndPoint(peer.TcpHost, peer.TcpPort);
            await socket.ConnectAsync(endpoint, deadline.Token).ConfigureAwait(false);
            channel = new(socket);
            long window = await Handshake.GreetAsync(channel, _incarnation, _silo, peer, deadline.Token)
                .ConfigureAwait(false);
            LogConnected(_logger, peer, channel.Endpoint, window);
            return Take(peer, channel, Math.Min(window, _options.InFlightBytes));
        }
        catch (Exception exception)
        {
            socket.Dispose();
            Forget(peer.Incarnation);
            string reason = exception is OperationCanceledException
                ? $"no greeting within {_options.ConnectDeadline.TotalSeconds:0.###} s" : exception.Message;
            string endpoint = isLocal ? peer.UnixSocket! : $"{peer.TcpHost}:{peer.TcpPort}";
            LogNotConnected(_logger, peer, endpoint, reason);
            throw new ChannelException($"cannot connect to {peer} at {endpoint}: {reason}", exception);
        }
    }

    private OutgoingConnection Take(ChannelAddress peer, ChannelSocket channel, long window)
    {
        var connection = new OutgoingConnection(
            channel, peer.ToString(), window, new(channel, _pool, _options), _ => ForgetBroken(peer.Incarnation));
        Start(async () =>
        {
            using CancellationTokenRegistration stop = _stop.Token.UnsafeRegister(
                static state => ((OutgoingConnection)state!).Dispose(), connection);
            LogLost(_logger, peer, await connection.RunAsync().ConfigureAwait(false));
        });
        return connection;
    }

    private void Forget(Guid incarnation)
    {
        lock (_lock)
        {
            _outgoing.Remove(incarnation);
        }
    }

    private void ForgetBroken(Guid incarnation)
    {
        lock (_lock)
        {
            // Another one may be open already.
            if (_outgoing.TryGetValue(incarnation, out Task<OutgoingConnection>? open) && IsBroken(open))
            {
                _outgoing.Remove(incarnation);
            }
        }
    }

    private static bool IsBroken(Task<OutgoingConnection> open) => open.IsCompletedSuccessfully && open.Result.IsBroken;
}
