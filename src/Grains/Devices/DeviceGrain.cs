using Krewe.Grains.Placement;
using Krewe.Model.Tensors;
using Microsoft.Extensions.Hosting;

namespace Krewe.Grains.Devices;

/// <inheritdoc cref="IDeviceGrain"/>
[GrainType(GrainTypes.Device), DevicePlacement]
public sealed class DeviceGrain(
    DeviceHosts hosts, PlacementPlans plans, TensorPosts posts, IHostApplicationLifetime lifetime)
    : Grain, IDeviceGrain
{
    private DeviceHost _host = null!;

    /// <inheritdoc/>
    public override Task OnActivateAsync(CancellationToken cancellationToken)
    {
        _host = hosts.Of(this.GetPrimaryKeyString());
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public Task<DeviceStatus> StatusAsync()
    {
        IDevice device = _host.Device;
        HostedModelStatus[] models = [.. _host.Models.Select(model => new HostedModelStatus(
            model.Name, model.Experts.Count, model.Stages.Count())).OrderBy(model => model.Name, StringComparer.Ordinal)];
        return Task.FromResult(new DeviceStatus(
            _host.Place, device.Name, device.Kernels.Name, device.ReservedBytes,
            models.Sum(model => model.Experts), models.Sum(model => model.Stages), models,
            GC.GetGCMemoryInfo().HeapSizeBytes, device.Loss.IsLost ? 0 : device.PeakBytes, device.BFloat16Rate, device.Loss.IsLost));
    }

    /// <inheritdoc/>
    public Task<TensorPeer> PeerAsync() => Task.FromResult(posts.Of(_host).Self);

    /// <inheritdoc/>
    public Task<PlaceStatus[]> PlacesAsync() => Task.FromResult<PlaceStatus[]>(
        [.. hosts.All.Select(host => new PlaceStatus(host.Place, host.Device.Name, host.Device.Loss.IsLost))]);

    /// <inheritdoc/>
    public Task UsePlanAsync(string model, PlacementPlan plan)
    {
        plans.Use(model, plan);
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public Task StopAsync()
    {
        // Off the turn: whoever leaves waits for the grain's calls, this one among them, to be answered.
        _ = Task.Run(lifetime.StopApplication);
        return Task.CompletedTask;
    }
}
