using System.Net;
using Krewe.Model;
using Orleans.Runtime;

namespace Krewe.Silo.Hosting.Membership;

/// <summary>
/// Waits, before a silo starts, until every silo in the table answers or is dead there. Living silos see to that within
/// seconds; where none is left, as after the crash of a whole cluster, the entries are declared dead here. A silo that
/// started among them would try to talk to them for minutes.
/// </summary>
internal static class StaleSilos
{
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(250);

    /// <summary>Settles the table.</summary>
    /// <param name="table">The table, not yet initialised.</param>
    /// <param name="cluster">Name of the cluster.</param>
    /// <param name="name">Name of the silo that will start.</param>
    /// <param name="self">Its endpoint.</param>
    /// <param name="time">The clock that heartbeats are compared with.</param>
    /// <param name="cancellation">Gives up.</param>
    /// <exception cref="KreweException">The name is taken, or a living silo cannot be reached.</exception>
    public static async Task SettleAsync(
        IMembershipTable table, string cluster, string name, IPEndPoint self, TimeProvider time, CancellationToken cancellation)
    {
        await table.InitializeMembershipTableAsync(true, cancellation);
        long started = time.GetTimestamp();
        while (true)
        {
            MembershipTableData data = await table.ReadAllAsync(cancellation);
            Tuple<MembershipEntry, string>[] others = [.. data.Members.Where(
                member => member.Item1.Status is SiloStatus.Active or SiloStatus.Joining)];
            bool[] answers = await Task.WhenAll(others.Select(
                member => Reachability.AnswersAsync(member.Item1.SiloAddress.Endpoint, cancellation)));
            MembershipEntry? twin = others.Where((_, i) => answers[i]).Select(member => member.Item1)
                .FirstOrDefault(entry => entry.SiloName == name && entry.Status == SiloStatus.Active);
            if (twin is not null)
            {
                throw JoinCheck.Taken(cluster, twin);
            }

            Tuple<MembershipEntry, string>[] silent = [.. others.Where((_, i) => !answers[i])];
            if (silent.Length == 0)
            {
                return;
            }

            if (silent.FirstOrDefault(member => IsStale(member.Item1, time)) is { } stale)
            {
                // One at a time: each write needs the version that the last one made. A lost race is tried again.
                stale.Item1.Status = SiloStatus.Dead;
                await table.UpdateRowAsync(stale.Item1, stale.Item2, data.Version.Next(), cancellation);
                continue;
            }

            if (time.GetElapsedTime(started) > 2 * MembershipTuning.StaleHeartbeat)
            {
                MembershipEntry alive = silent[0].Item1;
                throw new KreweException(
                    $"silo '{alive.SiloName}' of cluster '{cluster}' is alive at {alive.SiloAddress.Endpoint} but cannot be " +
                    $"reached from here ({self}): give both --advertise addresses that the other reaches");
            }

            await Task.Delay(Pause, time, cancellation);
        }
    }

    private static bool IsStale(MembershipEntry entry, TimeProvider time)
    {
        DateTime last = entry.IAmAliveTime > entry.StartTime ? entry.IAmAliveTime : entry.StartTime;
        return time.GetUtcNow().UtcDateTime - last > MembershipTuning.StaleHeartbeat;
    }
}
