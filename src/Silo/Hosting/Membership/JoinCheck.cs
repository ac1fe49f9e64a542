using Krewe.Model;
using Microsoft.Extensions.Options;
using Orleans.Configuration;
using Orleans.Runtime;

namespace Krewe.Silo.Hosting.Membership;

/// <summary>
/// Makes sure, before a silo becomes active, that its name is its own: also where two with one name start together.
/// </summary>
/// <param name="self">This silo.</param>
/// <param name="cluster">The cluster.</param>
/// <param name="table">Where the silos are listed.</param>
internal sealed class JoinCheck(ILocalSiloDetails self, IOptions<ClusterOptions> cluster, IMembershipTable table)
    : ILifecycleParticipant<ISiloLifecycle>
{
    /// <summary>After the silo is in the table as joining, before Orleans itself checks the others.</summary>
    private const int Stage = ServiceLifecycleStage.BecomeActive - 200;

    /// <inheritdoc/>
    public void Participate(ISiloLifecycle lifecycle) => lifecycle.Subscribe(nameof(JoinCheck), Stage, CheckAsync);

    /// <summary>Says that a name is taken.</summary>
    public static KreweException Taken(string cluster, MembershipEntry twin) => new(
        $"cluster '{cluster}' has a silo '{twin.SiloName}' already, at {twin.SiloAddress.Endpoint}: give another --name, or " +
        "stop that one");

    private async Task CheckAsync(CancellationToken cancellation)
    {
        foreach (MembershipEntry entry in (await table.ReadAllAsync(cancellation)).Members.Select(member => member.Item1))
        {
            // Of two that join together, the one with the smaller address stays.
            bool precedes = entry.Status == SiloStatus.Active
                || (entry.Status == SiloStatus.Joining && entry.SiloAddress.CompareTo(self.SiloAddress) < 0);
            if (precedes && entry.SiloName == self.Name && !entry.SiloAddress.Equals(self.SiloAddress)
                && await Reachability.AnswersAsync(entry.SiloAddress.Endpoint, cancellation))
            {
                throw Taken(cluster.Value.ClusterId, entry);
            }
        }
    }
}
