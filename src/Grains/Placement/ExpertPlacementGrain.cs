using Krewe.Model.Configuration;
using Orleans.Concurrency;

namespace Krewe.Grains.Placement;

/// <inheritdoc cref="IExpertPlacementGrain"/>
[GrainType("krewe.placement"), Reentrant, KeepAlive]
public sealed class ExpertPlacementGrain(TimeProvider clock) : Grain, IExpertPlacementGrain
{
    private PlacementPlan? _plan;
    private long _version;

    /// <inheritdoc/>
    public Task<PlacementPlan> CreateAsync(string configJson, TensorPeer[] silos, PipelineLayout layout)
    {
        // Rises also where the grain lost its memory with its silo.
        _version = Math.Max(_version + 1, clock.GetUtcNow().UtcTicks);
        _plan = FirstPlan.Create(ModelConfig.Parse(configJson, "the placement request"), silos, layout, _version);
        return Task.FromResult(_plan);
    }

    /// <inheritdoc/>
    public Task<PlacementPlan?> FindAsync() => Task.FromResult(_plan);

    /// <inheritdoc/>
    public Task ForgetAsync()
    {
        _plan = null;
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public Task<PlacementPlan> GetAsync() => Task.FromResult(
        _plan ?? throw new InvalidOperationException($"no placement plan was made for '{this.GetPrimaryKeyString()}'"));
}
