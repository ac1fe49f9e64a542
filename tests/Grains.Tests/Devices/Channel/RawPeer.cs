using System.Net;
using System.Net.Sockets;
using Krewe.Grains.Devices.Channel;
using Krewe.Grains.Interfaces.Devices;

namespace Krewe.Grains.Tests.Devices.Channel;

/// <summary>One end of the protocol by hand, so that a test decides when it reads, writes or dies.</summary>
internal sealed class RawPeer : IDisposable
{
    private readonly Socket _listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
    private readonly Guid _incarnation = Guid.NewGuid();
    private Socket? _socket;

    public RawPeer()
    {
        _listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        _listener.Listen();
        Address = new(
            "raw", "elsewhere", null, "127.0.0.1", ((IPEndPoint)_listener.LocalEndPoint!).Port, "its token", _incarnation);
    }

    public ChannelAddress Address { get; }

    public Guid Incarnation => _incarnation;

    public ChannelSocket Wire { get; private set; } = null!;

    /// <summary>Admits the next sender with a window.</summary>
    public async Task AcceptAsync(long window)
    {
        _socket = await _listener.AcceptAsync(ChannelPair.Token);
        Wire = new(_socket);
        (_, ChannelMessage welcome) = await Handshake.AcceptAsync(Wire, Address, ChannelPair.Token);
        await Handshake.SendAsync(Wire, welcome with { Bytes = window }, ChannelPair.Token);
    }

    /// <summary>Connects as a sender.</summary>
    public async Task ConnectAsync(ChannelAddress peer)
    {
        _socket = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await _socket.ConnectAsync(peer.TcpHost, peer.TcpPort, ChannelPair.Token);
        Wire = new(_socket);
        await Handshake.GreetAsync(Wire, Incarnation, "raw", peer, ChannelPair.Token);
    }

    /// <summary>Ends as a killed process on another machine does: with a reset.</summary>
    public void Kill()
    {
        _socket!.LingerState = new(true, 0);
        Wire.Dispose();
    }

    public void Dispose()
    {
        _listener.Dispose();
        _socket?.Dispose();
        Wire?.Dispose();
    }
}
