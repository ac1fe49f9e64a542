using System.Net;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Orleans.Configuration;
using Orleans.Runtime;

namespace Krewe.Grains.Devices.Channel;

/// <summary>Starts and ends the tensor channel with its silo: before the first grain, after the last one.</summary>
internal sealed class ChannelLifecycle(TensorChannel channel) : ILifecycleParticipant<ISiloLifecycle>
{
    /// <inheritdoc/>
    public void Participate(ISiloLifecycle lifecycle) => lifecycle.Subscribe(
        nameof(TensorChannel), ServiceLifecycleStage.RuntimeServices,
        channel.StartAsync,
        async _ => await channel.DisposeAsync());

    /// <summary>The channel of a silo, by default on the address that the silo itself listens on.</summary>
    public static TensorChannel Create(
        IServiceProvider services, string silo, TensorChannelOptions? options, string? sockets)
    {
        EndpointOptions endpoints = services.GetRequiredService<IOptions<EndpointOptions>>().Value;
        IPAddress? advertised = endpoints.AdvertisedIPAddress;
        options ??= new()
        {
            Listen = endpoints.SiloListeningEndpoint?.Address ?? advertised ?? IPAddress.Loopback,
            AdvertisedHost = advertised?.ToString(),
            UnixSocketFolder = sockets ?? UnixSocketFile.DefaultFolder,
        };
        return new(silo, options, services.GetService<ILogger<TensorChannel>>());
    }
}
