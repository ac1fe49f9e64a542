using System.Collections.Concurrent;
using Krewe.Grains.Devices.Channel;
using Krewe.Grains.Interfaces.Devices;
using Krewe.Model.Tensors;
using Microsoft.Extensions.DependencyInjection;
using Orleans.Concurrency;
using Orleans.Placement;

namespace Krewe.Cluster;

/// <summary>The receiving end of <see cref="ChannelSpeed"/>, in the child process.</summary>
[Alias("krewe.benchmarks.IChannelPeerGrain")]
public interface IChannelPeerGrain : IGrainWithIntegerKey
{
    /// <summary>Nothing: the cost of a call.</summary>
    [Alias("PingAsync")]
    Task PingAsync();

    /// <summary>Where the child receives, with or without a Unix-domain socket.</summary>
    [Alias("AddressAsync")]
    Task<ChannelAddress> AddressAsync(bool overUnix);

    /// <summary>Takes the tensors of all tickets and drops them.</summary>
    [Alias("ReceiveAsync")]
    Task ReceiveAsync([Immutable] TensorTicket[] tickets, bool overUnix);
}

/// <inheritdoc cref="IChannelPeerGrain"/>
[Reentrant, PreferLocalPlacement, KeepAlive]
public sealed class ChannelPeerGrain(TensorChannel unix, [FromKeyedServices(ChannelPeerGrain.Tcp)] TensorChannel tcp)
    : Grain, IChannelPeerGrain
{
    /// <summary>Key of the channel without a Unix-domain socket.</summary>
    public const string Tcp = "tcp";

    private static readonly ConcurrentBag<HostArena> Arenas = [];

    /// <inheritdoc/>
    public Task PingAsync() => Task.CompletedTask;

    /// <inheritdoc/>
    public Task<ChannelAddress> AddressAsync(bool overUnix) => Task.FromResult(Of(overUnix).Address);

    /// <inheritdoc/>
    public async Task ReceiveAsync(TensorTicket[] tickets, bool overUnix)
    {
        HostArena arena = Arenas.TryTake(out HostArena? kept) ? kept : new("benchmark");
        foreach (TensorTicket ticket in tickets)
        {
            await Of(overUnix).ReceiveAsync(ticket, arena);
        }

        arena.Reset();
        Arenas.Add(arena);
    }

    private TensorChannel Of(bool isUnix) => isUnix ? unix : tcp;
}
