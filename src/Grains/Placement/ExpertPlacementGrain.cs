using Krewe.Model.Balancing;
using Krewe.Model.Configuration;
using Krewe.Model.Layers;
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
        if (silos.Length == 0)
        {
            throw new ArgumentException("a plan needs at least one silo");
        }

        ModelConfig config = ModelConfig.Parse(configJson, "the placement request");
        StageRange[] ranges = StageRange.Partition(config, layout.Stages);
        int[] spread = config.NRoutedExperts > 0 ? ExpertPlacementPlanner.Spread(config, silos.Length) : [];
        _plan = new()
        {
            // Rises also where the grain lost its memory with its silo.
            Version = _version = Math.Max(_version + 1, clock.GetUtcNow().UtcTicks),
            Silos = [.. silos.Select(silo => silo.Silo)],
            Peers = silos,
            CanonicalGroups = config.NRoutedExperts > 0 ? ExpertTopology.CanonicalGroups(config) : 1,
            SiloOfExpert = Enumerable.Range(0, config.TotalLayers).Where(config.IsMoeLayer)
                .ToDictionary(layer => layer, _ => spread),
            SiloOfStage = [.. ranges.Select(range => SiloOf(0, range.Index))],
            SiloOfMirror = layout.Directions == 2 ? [.. ranges.Select(range => SiloOf(1, range.Index))] : [],
            FirstLayerOfStage = [.. ranges.Select(range => range.FirstLayer)],
        };
        return Task.FromResult(_plan);

        int SiloOf(int direction, int stage) => layout.RankOf(direction, stage) * silos.Length / layout.Ranks;
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
