using Orleans.Runtime;
using Orleans.Runtime.Placement;

namespace Krewe.Grains.Placement;

/// <summary>
/// Chooses the silo of a pinned grain, which is that of its place: an expert's and a stage's from the placement plan, a
/// gateway's and a device's from the key. Silos are known by their name in the membership table.
/// </summary>
/// <param name="membership">All silos.</param>
/// <param name="plans">Plans of the models.</param>
public sealed class DevicePlacementDirector(IClusterMembershipService membership, PlacementPlans plans) : IPlacementDirector
{
    private static readonly TimeSpan ArrivalDeadline = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan ArrivalPoll = TimeSpan.FromMilliseconds(50);

    /// <inheritdoc/>
    public async Task<SiloAddress> OnAddActivation(
        PlacementStrategy strategy, PlacementTarget target, IPlacementContext context)
    {
        SiloAddress[] silos = context.GetCompatibleSilos(target);
        if (IPlacementDirector.GetPlacementHint(target.RequestContextData, silos) is { } hint)
        {
            return hint;
        }

        string node = PlaceName.SiloOf(await PlaceOfAsync(target.GrainIdentity));
        // A silo that has just joined is compatible a moment later, when its manifest has reached the others. That and its
        // membership come by two ways, so look again until the deadline, which names grain and silo.
        using var deadline = new CancellationTokenSource(ArrivalDeadline);
        while (true)
        {
            var members = membership.CurrentSnapshot.Members;
            foreach (SiloAddress silo in context.GetCompatibleSilos(target))
            {
                if (members.TryGetValue(silo, out ClusterMember? member) && member.Name == node)
                {
                    return silo;
                }
            }

            if (deadline.IsCancellationRequested || HasLeft(members.Values, node))
            {
                throw new OrleansException(
                    $"{target.GrainIdentity} belongs on silo '{node}', which is not among the {silos.Length} live silos");
            }

            await Task.Delay(ArrivalPoll, CancellationToken.None);
        }
    }

    /// <summary>True where every silo of this name that is known leaves, or has: a caller in a step shall hear at once.</summary>
    private static bool HasLeft(IEnumerable<ClusterMember> members, string node)
    {
        ClusterMember[] known = [.. members.Where(member => member.Name == node)];
        return known.Length > 0 && known.All(member => member.Status.IsTerminating());
    }

    private async Task<string> PlaceOfAsync(GrainId grain)
    {
        string key = grain.Key.ToString()!;
        switch (grain.Type.ToString())
        {
            case GrainTypes.Expert:
                (string model, int layer, int expert) = GrainKeys.ParseExpert(key);
                return (await plans.GetAsync(model)).SiloOf(layer, expert);
            case GrainTypes.Stage:
                (string owner, int direction, int stage) = GrainKeys.ParseStage(key);
                return (await plans.GetAsync(owner)).PlaceOfCopy(direction, stage);
            case GrainTypes.Host or GrainTypes.State:
                return GrainKeys.ParseHost(key).Place;
            case GrainTypes.Device:
                return key;
            default:
                throw new OrleansException($"{grain.Type} is marked as pinned but no rule says where it lives");
        }
    }
}
