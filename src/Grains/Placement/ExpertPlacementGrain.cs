using Krewe.Model.Balancing;
using Krewe.Model.Configuration;
using Krewe.Model.Layers;
using Orleans.Concurrency;

namespace Krewe.Grains.Placement;

/// <inheritdoc cref="IExpertPlacementGrain"/>
[GrainType("krewe.placement"), Reentrant, KeepAlive]
public sealed class ExpertPlacementGrain : Grain, IExpertPlacementGrain
{
    private PlacementPlan? _plan;
    private long _version;

    /// <inheritdoc/>
    public Task<PlacementPlan> CreateAsync(string configJson, string[] silos, int stages)
    {
        if (silos.Length == 0)
        {
            throw new ArgumentException("a plan needs at least one silo");
        }

        ModelConfig config = ModelConfig.Parse(configJson, "the placement request");
        StageRange[] ranges = StageRange.Partition(config, stages);
        int[] spread = config.NRoutedExperts > 0 ? ExpertPlacementPlanner.Spread(config, silos.Length) : [];
        _plan = new()
        {
            Version = ++_version,
            Silos = silos,
            CanonicalGroups = config.NRoutedExperts > 0 ? ExpertTopology.CanonicalGroups(config) : 1,
            SiloOfExpert = Enumerable.Range(0, config.TotalLayers).Where(config.IsMoeLayer)
                .ToDictionary(layer => layer, _ => spread),
            SiloOfStage = [.. ranges.Select(range => range.Index * silos.Length / stages)],
            FirstLayerOfStage = [.. ranges.Select(range => range.FirstLayer)],
        };
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
