using Krewe.Grains.Placement;

namespace Krewe.Grains.Devices;

/// <inheritdoc cref="IDeviceGrain"/>
[GrainType(GrainTypes.Device), DevicePlacement]
public sealed class DeviceGrain(DeviceHost host) : Grain, IDeviceGrain
{
    /// <inheritdoc/>
    public Task<DeviceStatus> StatusAsync() => Task.FromResult(new DeviceStatus(
        host.Silo, host.Device.Name, host.Device.Kernels.Name, host.Device.ReservedBytes,
        host.Models.Sum(model => model.Experts.Count), host.Models.Sum(model => model.Stages.Count)));
}
