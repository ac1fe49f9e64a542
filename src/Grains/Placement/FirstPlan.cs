using Krewe.Model.Balancing;
using Krewe.Model.Configuration;
using Krewe.Model.Layers;

namespace Krewe.Grains.Placement;

/// <summary>Places a model by the order of the places alone: the same places give the same plan.</summary>
public static class FirstPlan
{
    /// <summary>
    /// Up to this share of a model's parameters, embedding and head get a copy for each direction, as the rest of a stage
    /// does. Held once they save that memory, but cost round trips in every micro-batch of direction 1, which devices stand
    /// still for on a slow network. DeepSeek-V3's are 0.003, DeepSeek-V2-Lite's 0.027, docs-26m's 0.16
    /// (docs/decisions/0009).
    /// </summary>
    public const double LargestReplicaShare = 0.05;

    /// <summary>
    /// The plan: experts spread evenly by whole groups, ranks spread evenly in their order. Under DualPipe ranks r and
    /// P-1-r hold the same two stages: where a place gets at least two ranks it gets such pairs, whose copies then
    /// share their memory; where there are more places than pairs, and silos with several of them, a pair goes to
    /// neighbouring places, so that its gradients are exchanged within a silo.
    /// </summary>
    /// <param name="config">The model.</param>
    /// <param name="silos">The places, those of a silo side by side.</param>
    /// <param name="layout">Ranks and schedule of the pipeline.</param>
    /// <param name="version">Version of the plan.</param>
    public static PlacementPlan Create(ModelConfig config, TensorPeer[] silos, PipelineLayout layout, long version)
    {
        if (silos.Length == 0)
        {
            throw new ArgumentException("a plan needs at least one place");
        }

        bool replicas = layout.Directions == 2 && ParameterCounts.Of(config).TableShare <= LargestReplicaShare;
        StageRange[] ranges = layout.Directions == 2
            ? StageRange.PartitionMirrored(config, layout.Stages, headOnce: !replicas)
            : StageRange.Partition(config, layout.Stages);
        bool severalOfSilo = silos.DistinctBy(place => PlaceName.SiloOf(place.Silo)).Count() < silos.Length;
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
            TableReplicas = replicas,
        };

        int SiloOf(int direction, int stage)
        {
            int rank = layout.RankOf(direction, stage);
            int pairs = layout.Ranks / 2;
            if (layout.Directions != 2 || (silos.Length > pairs && !severalOfSilo))
            {
                return rank * silos.Length / layout.Ranks;
            }

            int pair = Math.Min(rank, layout.Ranks - 1 - rank);
            (int one, int other) = Neighbours(pair * silos.Length / pairs, (pair + 1) * silos.Length / pairs);
            return rank == pair ? one : other;
        }

        // Of a pair's share of the places: the first two of one silo, where there are two.
        (int One, int Other) Neighbours(int first, int end)
        {
            for (int i = first; i + 1 < end; i++)
            {
                if (PlaceName.SiloOf(silos[i].Silo) == PlaceName.SiloOf(silos[i + 1].Silo))
                {
                    return (i, i + 1);
                }
            }

            return (first, Math.Max(first, end - 1));
        }
    }
}
