using System.Net;

namespace Krewe.Silo.Hosting.Membership;

/// <summary>Where the silos of a cluster find each other.</summary>
internal interface IMembership
{
    /// <summary>The place in words, without secrets, such as "Redis at 127.0.0.1:6379".</summary>
    string Place { get; }

    /// <summary>Reaches the server, and makes ready there what a silo needs.</summary>
    /// <exception cref="Model.KreweException">It does not answer, or refuses.</exception>
    Task PrepareAsync(CancellationToken cancellation);

    /// <summary>True where the table of silos outlives them, on a server.</summary>
    bool IsLasting => true;

    /// <summary>Ports of a silo, where the settings leave them open.</summary>
    (int Silo, int Gateway) PortsOf(ClusterSettings settings);

    /// <summary>Makes a silo a member.</summary>
    void Use(ISiloBuilder silo, IPEndPoint self);

    /// <summary>Makes a client find gateways.</summary>
    void Use(IClientBuilder client);

    /// <summary>Completes, with a line that says why, when the place is lost and the cluster with it.</summary>
    async Task<string> LostAsync(CancellationToken cancellation)
    {
        // A server that is away for a while costs only changes of membership: silos go on with what they know.
        await Task.Delay(Timeout.InfiniteTimeSpan, cancellation);
        return "";
    }

    /// <summary>The place that <paramref name="settings"/> name.</summary>
    static IMembership Of(ClusterSettings settings) => settings.Membership switch
    {
        MembershipKind.Redis => new RedisMembership(settings),
        MembershipKind.Postgres => new PostgresMembership(settings),
        _ => new LocalhostMembership(settings),
    };

    /// <summary>The ports that were asked for, free ones for the rest.</summary>
    static (int Silo, int Gateway) FreePortsOf(ClusterSettings settings)
    {
        int[] free = FreePorts.Of(settings.Advertise, 2);
        return (settings.SiloPort > 0 ? settings.SiloPort : free[0],
            settings.GatewayPort > 0 ? settings.GatewayPort : free[1]);
    }
}
