namespace Krewe.Grains.Interfaces.Devices;

/// <summary>
/// Where the tensor channel of a silo listens, and the secret that opens it. It travels over the control plane only (a
/// grain call between silos): whoever holds it may send tensors to that silo.
/// </summary>
/// <param name="Silo">Name of the silo, for messages.</param>
/// <param name="Host">Identity of the machine: peers with the same one use the Unix-domain socket.</param>
/// <param name="UnixSocket">Path of the Unix-domain socket; null where there is none.</param>
/// <param name="TcpHost">Address or name that other machines reach the silo by.</param>
/// <param name="TcpPort">TCP port.</param>
/// <param name="Token">The secret, base64. Never logged; it proves itself by HMAC and never crosses the channel.</param>
/// <param name="Incarnation">New for every start of a channel: a restarted silo is another peer.</param>
[GenerateSerializer, Immutable, Alias("krewe.ChannelAddress")]
public sealed record ChannelAddress(
    [property: Id(0)] string Silo, [property: Id(1)] string Host, [property: Id(2)] string? UnixSocket,
    [property: Id(3)] string TcpHost, [property: Id(4)] int TcpPort, [property: Id(5)] string Token,
    [property: Id(6)] Guid Incarnation)
{
    /// <summary>Name and address, without the secret.</summary>
    public override string ToString() => $"{Silo} ({TcpHost}:{TcpPort}, {Incarnation:N})";
}
