using Krewe.Model.Balancing;
using Krewe.Model.Configuration;
using Krewe.Model.Layers;

namespace Krewe.Grains.Placement;

/// <summary>Places a model on silos by their order alone: the same silos give the same plan.</summary>
public static class FirstPlan
{
    /// <summary>
    /// The plan: experts spread evenly by whole groups, ranks spread evenly in their order. Under DualPipe ranks r and
    /// P-1-r hold the same two stages: where a silo gets at least two ranks it gets such pairs, whose copies then share
    /// their memory.
    /// </summary>
    /// <param name="config">The model.</param>
    /// <param name="silos">The silos.</param>
    /// <param name="layout">Ranks and schedule of the pipeline.</param>
    /// <param name="version">Version of the plan.</param>
    public static PlacementPlan Create(ModelConfig config, TensorPeer[] silos, PipelineLayout layout, long version)
    {
        if (silos.Length == 0)
        {
            throw new ArgumentException("a plan needs at least one silo");
        }

        StageRange[] ranges = layout.Directions == 2
            ? StageRange.PartitionMirrored(config, layout.Stages)
            : StageRange.Partition(config, layout.Stages);
        int[] spread = config.NRoutedExperts > 0 ? ExpertPlacementPlanner.Spread(config, silos.Length) : [];
        return new()
        {
            Version = version,
            Silos = [.. silos.Select(silo => silo.Silo)],
            Peers = silos,
            CanonicalGroups = config.NRoutedExperts > 0 ? ExpertTopology.CanonicalGroups(config) : 1,
            SiloOfExpert = Enumerable.Range(0, config.TotalLayers).Where(config.IsMoeLayer)
                .ToDictionary(layer => layer, _ => spread),
            SiloOfStage = [.. ranges.Select(range => SiloOf(0, range.Index))],
            SiloOfMirror = layout.Directions == 2 ? [.. ranges.Select(range => SiloOf(1, range.Index))] : [],
            FirstLayerOfStage = [.. ranges.Select(range => range.FirstLayer)],
        };

        int SiloOf(int direction, int stage)
        {
            int rank = layout.RankOf(direction, stage);
            int pairs = layout.Ranks / 2;
            return layout.Directions == 2 && silos.Length <= pairs
                ? Math.Min(rank, layout.Ranks - 1 - rank) * silos.Length / pairs
                : rank * silos.Length / layout.Ranks;
        }
    }
}
