using System.Collections.Concurrent;

namespace Krewe.Grains.Placement;

/// <summary>The silo's copies of placement plans, fetched from the placement grain when first needed.</summary>
/// <param name="grains">Where the placement grain is reached.</param>
public sealed class PlacementPlans(IGrainFactory grains)
{
    private readonly ConcurrentDictionary<string, PlacementPlan> _plans = new(StringComparer.Ordinal);

    /// <summary>The plan of a model.</summary>
    public async ValueTask<PlacementPlan> GetAsync(string model)
    {
        if (_plans.TryGetValue(model, out PlacementPlan? plan))
        {
            return plan;
        }

        plan = await grains.GetGrain<IExpertPlacementGrain>(model).GetAsync();
        _plans[model] = plan;
        return plan;
    }

    /// <summary>The plan of a model, or null where none was made.</summary>
    public async ValueTask<PlacementPlan?> FindAsync(string model) => _plans.TryGetValue(model, out PlacementPlan? plan)
        ? plan
        : await grains.GetGrain<IExpertPlacementGrain>(model).FindAsync();

    /// <summary>Goes over to a plan, unless a newer one is known.</summary>
    public void Use(string model, PlacementPlan plan) =>
        _plans.AddOrUpdate(model, plan, (_, known) => plan.Version >= known.Version ? plan : known);

    /// <summary>A place of a process, where a plan names it: all of a silo have one channel.</summary>
    public TensorPeer? FindPeer(Guid process)
    {
        foreach (PlacementPlan plan in _plans.Values)
        {
            foreach (TensorPeer peer in plan.Peers)
            {
                if (peer.Process == process)
                {
                    return peer;
                }
            }
        }

        return null;
    }

    /// <summary>Drops a plan, to fetch it anew.</summary>
    public void Forget(string model) => _plans.TryRemove(model, out _);
}
