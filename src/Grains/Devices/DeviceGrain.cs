using Krewe.Grains.Placement;
using Microsoft.Extensions.Hosting;

namespace Krewe.Grains.Devices;

/// <inheritdoc cref="IDeviceGrain"/>
[GrainType(GrainTypes.Device), DevicePlacement]
public sealed class DeviceGrain(DeviceHost host, PlacementPlans plans, TensorPost post, IHostApplicationLifetime lifetime)
    : Grain, IDeviceGrain
{
    /// <inheritdoc/>
    public Task<DeviceStatus> StatusAsync()
    {
        HostedModelStatus[] models = [.. host.Models.Select(model => new HostedModelStatus(
            model.Name, model.Experts.Count, model.Stages.Count())).OrderBy(model => model.Name, StringComparer.Ordinal)];
        return Task.FromResult(new DeviceStatus(
            host.Silo, host.Device.Name, host.Device.Kernels.Name, host.Device.ReservedBytes,
            models.Sum(model => model.Experts), models.Sum(model => model.Stages), models,
            GC.GetGCMemoryInfo().HeapSizeBytes, host.Device.PeakBytes, host.Device.BFloat16Rate));
    }

    /// <inheritdoc/>
    public Task<TensorPeer> PeerAsync() => Task.FromResult(post.Self);

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
