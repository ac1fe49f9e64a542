using Krewe.Grains.Placement;

namespace Krewe.Grains.Devices;

/// <inheritdoc cref="IDeviceGrain"/>
[GrainType(GrainTypes.Device), DevicePlacement]
public sealed class DeviceGrain(DeviceHost host, PlacementPlans plans) : Grain, IDeviceGrain
{
    /// <inheritdoc/>
    public Task<DeviceStatus> StatusAsync() => Task.FromResult(new DeviceStatus(
        host.Silo, host.Device.Name, host.Device.Kernels.Name, host.Device.ReservedBytes,
        host.Models.Sum(model => model.Experts.Count), host.Models.Sum(model => model.Stages.Count())));

    /// <inheritdoc/>
    public Task<TensorPeer> PeerAsync() => Task.FromResult(new TensorPeer(host.Silo, host.Process));

    /// <inheritdoc/>
    public Task UsePlanAsync(string model, PlacementPlan plan)
    {
        plans.Use(model, plan);
        return Task.CompletedTask;
    }
}
