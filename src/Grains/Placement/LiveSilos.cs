using Krewe.Grains.Devices;
using Krewe.Model.Tensors;
using Microsoft.Extensions.Options;
using Orleans.Configuration;
using Orleans.Runtime;

namespace Krewe.Grains.Placement;

/// <summary>
/// The silos that take part in the cluster now, as this silo's membership view knows them. One of this process that has
/// lost its device is retired: it counts as dead, though its grains still answer.
/// </summary>
/// <param name="statuses">The silo's view.</param>
/// <param name="cluster">Which cluster.</param>
public sealed class LiveSilos(ISiloStatusOracle statuses, IOptions<ClusterOptions> cluster)
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

    /// <summary>Names of the active silos that can compute, in ordinal order.</summary>
    public IReadOnlyList<string> Names() => [.. Active().Where(silo => LossOf(silo) is null)];

    /// <summary>Names of the active silos that have lost their devices, in ordinal order.</summary>
    public IReadOnlyList<string> Retired() => [.. Active().Where(silo => LossOf(silo) is not null)];

    /// <summary>How a silo of this process lost its device, or null.</summary>
    public DeviceLostException? LossOf(string silo) => ProcessSilos.LossOf(cluster.Value.ClusterId, silo);

    private SortedSet<string> Active()
    {
        var names = new SortedSet<string>(StringComparer.Ordinal);
        foreach (SiloAddress silo in statuses.GetApproximateSiloStatuses(onlyActive: true).Keys)
        {
            if (statuses.TryGetSiloName(silo, out string? name))
            {
                names.Add(name);
            }
        }

        return names;
    }
}
