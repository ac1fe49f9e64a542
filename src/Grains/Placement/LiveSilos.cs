using Orleans.Runtime;

namespace Krewe.Grains.Placement;

/// <summary>The silos that take part in the cluster now, as this silo's membership view knows them.</summary>
/// <param name="statuses">The silo's view.</param>
public sealed class LiveSilos(ISiloStatusOracle statuses)
{
    /// <summary>The address of an active silo, or null.</summary>
    public SiloAddress? Find(string name)
    {
        foreach (SiloAddress silo in statuses.GetApproximateSiloStatuses(onlyActive: true).Keys)
        {
            if (statuses.TryGetSiloName(silo, out string? known) && known == name)
            {
                return silo;
            }
        }

        return null;
    }

    /// <summary>Names of the active silos, in ordinal order.</summary>
    public IReadOnlyList<string> Names()
    {
        var names = new SortedSet<string>(StringComparer.Ordinal);
        foreach (SiloAddress silo in statuses.GetApproximateSiloStatuses(onlyActive: true).Keys)
        {
            if (statuses.TryGetSiloName(silo, out string? name))
            {
                names.Add(name);
            }
        }

        return [.. names];
    }
}
