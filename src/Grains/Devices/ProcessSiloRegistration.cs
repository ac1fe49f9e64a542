using Microsoft.Extensions.Options;
using Orleans.Configuration;
using Orleans.Runtime;

namespace Krewe.Grains.Devices;

/// <summary>
/// Keeps a silo in <see cref="ProcessSilos"/> while it is active, its places and the losses of their devices.
/// </summary>
internal sealed class ProcessSiloRegistration(
    DeviceHosts hosts, IGrainFactory grains, IOptions<ClusterOptions> cluster) : ILifecycleParticipant<ISiloLifecycle>
{
    /// <inheritdoc/>
    public void Participate(ISiloLifecycle lifecycle) => lifecycle.Subscribe(
        nameof(ProcessSiloRegistration), ServiceLifecycleStage.Active,
        _ =>
        {
            string id = cluster.Value.ClusterId;
            ProcessSilos.Add(id, hosts.Silo, [.. hosts.All.Select(host => host.Place)], hosts.InBand ? null : grains);
            foreach (DeviceHost host in hosts.All)
            {
                host.Device.Loss.Register(loss => ProcessSilos.Retire(id, host.Place, loss));
            }

            return Task.CompletedTask;
        },
        _ =>
        {
            ProcessSilos.Remove(cluster.Value.ClusterId, hosts.Silo);
            return Task.CompletedTask;
        });
}
