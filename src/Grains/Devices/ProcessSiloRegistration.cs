using Microsoft.Extensions.Options;
using Orleans.Configuration;
using Orleans.Runtime;

namespace Krewe.Grains.Devices;

/// <summary>Keeps a silo in <see cref="ProcessSilos"/> while it is active, and the loss of its device.</summary>
internal sealed class ProcessSiloRegistration(
    DeviceHost host, IGrainFactory grains, IOptions<ClusterOptions> cluster) : ILifecycleParticipant<ISiloLifecycle>
{
    /// <inheritdoc/>
    public void Participate(ISiloLifecycle lifecycle) => lifecycle.Subscribe(
        nameof(ProcessSiloRegistration), ServiceLifecycleStage.Active,
        _ =>
        {
            host.Device.Loss.Register(loss => ProcessSilos.Retire(cluster.Value.ClusterId, host.Silo, loss));
            if (!host.InBand)
            {
                ProcessSilos.Add(cluster.Value.ClusterId, host.Silo, grains);
            }

            return Task.CompletedTask;
        },
        _ =>
        {
            ProcessSilos.Remove(cluster.Value.ClusterId, host.Silo);
            return Task.CompletedTask;
        });
}
