using Krewe.Grains.Devices;

namespace Krewe.Grains.Training;

/// <content>The model's saved states in the memory of the cluster.</content>
public sealed partial class ClusterModel
{
    /// <summary>The gateways to the states of the plan's places, in their order.</summary>
    public IReadOnlyList<IStateHostGrain> States() =>
        [.. _plan.Silos.Select(silo => _grains.GetGrain<IStateHostGrain>(GrainKeys.Host(Name, silo)))];

    /// <summary>Places that have the state of an owner under this plan, for a snapshot that was just taken.</summary>
    public Dictionary<string, string[]> Holders() => HoldersOf(_plan);

    /// <summary>A part of a parameter as it was when a snapshot was taken.</summary>
    public async Task<TensorParcel> ReadSavedAsync(string name, ParameterPart part, int step)
    {
        (string owner, int silo) = PlacementPlan.ExpertOf(name) is var (layer, expert)
            ? (OwnerState.ExpertKey(layer, expert), _plan.SiloOfExpert[layer][expert])
            : (OwnerState.KeyOf(name, _plan.StageOf(name)), _plan.SiloOfStage[_plan.StageOf(name)]);
        TensorParcel parcel = await _grains.GetGrain<IStateHostGrain>(GrainKeys.Host(Name, _plan.Silos[silo]))
            .ReadSavedAsync(owner, step, name, part, _process);
        return parcel.IsEmpty
            ? throw new SnapshotLostException($"silo '{_plan.Silos[silo]}' has no '{name}' of step {step} any more")
            : parcel;
    }

    internal static Dictionary<string, string[]> HoldersOf(PlacementPlan plan)
    {
        int[] keepers = [.. plan.Silos.Select((_, place) => plan.KeeperOf(place))];
        var holders = new Dictionary<string, string[]>();
        foreach ((int layer, int[] experts) in plan.SiloOfExpert)
        {
            for (int expert = 0; expert < experts.Length; expert++)
            {
                holders.Add(OwnerState.ExpertKey(layer, expert), Rings([experts[expert]]));
            }
        }

        for (int stage = 0; stage < plan.SiloOfStage.Length; stage++)
        {
            holders.Add(
                OwnerState.StageKey(stage),
                Rings(Enumerable.Range(0, plan.Directions).Select(direction => plan.SiloOfCopy(direction, stage))));
        }

        holders.Add(OwnerState.EmbeddingKey, Rings(plan.SilosOfTable(0)));
        holders.Add(OwnerState.HeadKey, Rings(plan.SilosOfTable(plan.SiloOfStage.Length - 1)));
        return holders;

        string[] Rings(IEnumerable<int> silos) =>
            [.. silos.SelectMany(silo => (int[])[silo, keepers[silo]]).Distinct().Select(silo => plan.Silos[silo])];
    }
}
