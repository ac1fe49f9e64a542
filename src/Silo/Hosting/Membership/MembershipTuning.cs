using Orleans.Configuration;

namespace Krewe.Silo.Hosting.Membership;

/// <summary>How silos watch each other: a dead one is noticed in about a second, a busy one is not taken for dead.</summary>
internal static class MembershipTuning
{
    /// <summary>A silo whose heartbeat in the table is older than this did not leave it there lately.</summary>
    public static readonly TimeSpan StaleHeartbeat = TimeSpan.FromSeconds(3 * HeartbeatSeconds);

    private const int HeartbeatSeconds = 2;

    /// <summary>Sets the options of a silo.</summary>
    public static void Apply(ClusterMembershipOptions options)
    {
        // A closed connection fails a probe at once; only a silo that hangs costs the whole time of two probes.
        options.ProbeTimeout = TimeSpan.FromSeconds(1);
        // Traffic counts for a silo for twice this time: a silo that hangs is noticed after some three seconds.
        options.MaxProbeTimeout = TimeSpan.FromSeconds(1.5);
        options.NumMissedProbesLimit = 2;
        // One witness is enough: the probed silo's traffic and an indirect probe through a third silo speak for it.
        options.NumVotesForDeathDeclaration = 1;
        options.TableRefreshTimeout = TimeSpan.FromSeconds(5);
        options.IAmAliveTablePublishTimeout = TimeSpan.FromSeconds(HeartbeatSeconds);
        options.NumMissedTableIAmAliveLimit = 3;
        options.MaxJoinAttemptTime = TimeSpan.FromSeconds(60);
        options.DefunctSiloCleanupPeriod = TimeSpan.FromMinutes(10);
        options.DefunctSiloExpiration = TimeSpan.FromHours(2);
    }

    /// <summary>
    /// Grains of a dead silo start elsewhere at once. Orleans would hold them back for half a minute, in case the silo is
    /// cut off and not dead; here such a silo ends itself, and every call carries step and attempt, so that a late one
    /// is refused.
    /// </summary>
    public static void Apply(GrainDirectoryOptions options) => options.RangeLeaseDuration = TimeSpan.Zero;
}
