using System.Net;

namespace Krewe.Grains.Devices.Channel;

/// <summary>Settings of a <see cref="TensorChannel"/>.</summary>
public sealed record TensorChannelOptions
{
    /// <summary>
    /// Folder of the Unix-domain socket, made with mode 0700 where it does not exist; null for TCP only. Default: a
    /// folder of this user under the runtime or temporary directory.
    /// </summary>
    public string? UnixSocketFolder { get; init; } = UnixSocketFile.DefaultFolder;

    /// <summary>Address that the TCP socket listens on. Default: loopback.</summary>
    public IPAddress Listen { get; init; } = IPAddress.Loopback;

    /// <summary>TCP port; 0, the default, takes a free one.</summary>
    public int Port { get; init; }

    /// <summary>Name or address that peers reach this silo by. Default: <see cref="Listen"/>.</summary>
    public string? AdvertisedHost { get; init; }

    /// <summary>
    /// Bytes per peer that may be sent before the receiver has asked for them; a larger tensor goes alone. Both ends
    /// apply their own, the smaller one rules. Default: 64 MiB.
    /// </summary>
    public long InFlightBytes { get; init; } = 64L << 20;

    /// <summary>
    /// Bytes that this receiver keeps for all peers together before anyone asks for them. It is shared out as the
    /// peers connect; a peer that gets nothing sends what is awaited, and one tensor at a time. Default: 256 MiB.
    /// </summary>
    public long UnclaimedBytes { get; init; } = 256L << 20;

    /// <summary>Largest tensor accepted; a header that claims more ends the connection. Default: 4 GiB.</summary>
    public long MaxTensorBytes { get; init; } = 4L << 30;

    /// <summary>Limit for opening a connection, handshake included. Default: 5 s.</summary>
    public TimeSpan ConnectDeadline { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>Limit for one sending, from the call to the last byte. Default: 60 s.</summary>
    public TimeSpan SendDeadline { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>Limit for one receiving. Default: 60 s.</summary>
    public TimeSpan ReceiveDeadline { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>How long a tensor is kept that nobody asks for. Default: 2 minutes.</summary>
    public TimeSpan UnclaimedLife { get; init; } = TimeSpan.FromMinutes(2);

    /// <summary>Adds a checksum of the values to every tensor, beside that of the header. Default: off.</summary>
    public bool ChecksumValues { get; init; }

    /// <summary>
    /// Delays the delivery of every tensor that arrives here, at full throughput: the latency of a network, for tests
    /// and benchmarks. Default: none.
    /// </summary>
    public TimeSpan DeliveryDelay { get; init; }

    /// <summary>Faults to inject, for tests; null for none.</summary>
    public ChannelFaults? Faults { get; init; }
}
