using Krewe.Model;
using Microsoft.Extensions.Options;
using Orleans.Configuration;
using Orleans.Runtime;

namespace Krewe.Silo.Hosting.Membership;

/// <summary>
/// What a silo makes sure of before it becomes active: that its name is its own, and that it reaches every other silo.
/// Entries that a crashed cluster left behind are declared dead here; Orleans would wait for them for minutes.
/// </summary>
/// <param name="self">This silo.</param>
/// <param name="cluster">The cluster.</param>
/// <param name="table">Where the silos are listed.</param>
/// <param name="membership">Declares silos dead.</param>
/// <param name="time">The clock that heartbeats are compared with.</param>
internal sealed class JoinCheck(
    ILocalSiloDetails self, IOptions<ClusterOptions> cluster, IMembershipTable table, IClusterMembershipService membership,
    TimeProvider time) : ILifecycleParticipant<ISiloLifecycle>
{
    /// <summary>After the silo is in the table as joining, before Orleans itself checks the others.</summary>
    private const int Stage = ServiceLifecycleStage.BecomeActive - 200;

    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(250);

    /// <inheritdoc/>
    public void Participate(ISiloLifecycle lifecycle) => lifecycle.Subscribe(nameof(JoinCheck), Stage, CheckAsync);

    private async Task CheckAsync(CancellationToken cancellation)
    {
        long started = time.GetTimestamp();
        while (true)
        {
            MembershipEntry[] others = [.. (await table.ReadAllAsync(cancellation)).Members.Select(member => member.Item1)
                .Where(entry => entry.Status is SiloStatus.Active or SiloStatus.Joining
                    && !entry.SiloAddress.Equals(self.SiloAddress))];
            bool[] answers = await Task.WhenAll(
                others.Select(entry => Reachability.AnswersAsync(entry.SiloAddress.Endpoint, cancellation)));
            EnsureNameIsFree(others.Where((_, i) => answers[i]));
            MembershipEntry[] silent = [.. others.Where((entry, i) => !answers[i] && entry.Status == SiloStatus.Active)];
            if (silent.Length == 0)
            {
                return;
            }

            foreach (MembershipEntry entry in silent.Where(IsStale))
            {
                await membership.TryKill(entry.SiloAddress);
            }

            if (time.GetElapsedTime(started) > 2 * MembershipTuning.StaleHeartbeat
                && silent.FirstOrDefault(entry => !IsStale(entry)) is { } alive)
            {
                throw new KreweException(
                    $"silo '{alive.SiloName}' of cluster '{cluster.Value.ClusterId}' is alive at {alive.SiloAddress.Endpoint} but " +
                    $"cannot be reached from here ({self.SiloAddress.Endpoint}): give both --advertise addresses that the other reaches");
            }

            await Task.Delay(Pause, time, cancellation);
        }
    }

    /// <summary>Of two silos with one name that start together, the one with the smaller address stays.</summary>
    private void EnsureNameIsFree(IEnumerable<MembershipEntry> living)
    {
        MembershipEntry? twin = living.FirstOrDefault(entry => entry.SiloName == self.Name
            && (entry.Status == SiloStatus.Active || entry.SiloAddress.CompareTo(self.SiloAddress) < 0));
        if (twin is not null)
        {
            throw new KreweException(
                $"cluster '{cluster.Value.ClusterId}' has a silo '{self.Name}' already, at {twin.SiloAddress.Endpoint}: give " +
                "another --name, or stop that one");
        }
    }

    private bool IsStale(MembershipEntry entry) =>
        time.GetUtcNow().UtcDateTime - entry.IAmAliveTime > MembershipTuning.StaleHeartbeat
        && time.GetUtcNow().UtcDateTime - entry.StartTime > MembershipTuning.StaleHeartbeat;
}
