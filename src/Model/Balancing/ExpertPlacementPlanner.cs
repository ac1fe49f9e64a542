using Krewe.Model.Configuration;
using Krewe.Model.Layers;

namespace Krewe.Model.Balancing;

/// <summary>First placement of a model's experts: whole canonical groups in runs of nearly equal size.</summary>
public static class ExpertPlacementPlanner
{
    /// <summary>
    /// Host of each expert of one layer. Groups stay together while there are at least as many as hosts, so that a host
    /// returns one row per group; with more hosts than groups, experts are spread evenly.
    /// </summary>
    /// <param name="config">The model.</param>
    /// <param name="hosts">Number of hosts.</param>
    public static int[] Spread(ModelConfig config, int hosts)
    {
        int groups = ExpertTopology.CanonicalGroups(config);
        int experts = config.NRoutedExperts;
        int units = groups >= hosts ? groups : experts;
        int perUnit = experts / units;
        return [.. Enumerable.Range(0, experts).Select(expert => (int)((long)(expert / perUnit) * hosts / units))];
    }
}
