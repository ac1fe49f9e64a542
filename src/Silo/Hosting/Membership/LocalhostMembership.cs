using System.Net;
using Krewe.Model;

namespace Krewe.Silo.Hosting.Membership;

/// <summary>
/// A table in the memory of the cluster's first silo, its primary. No server is needed, and the primary's death ends
/// the cluster.
/// </summary>
internal sealed class LocalhostMembership(ClusterSettings settings) : IMembership
{
    private const int MissedAnswers = 3;

    private static readonly TimeSpan WatchPeriod = TimeSpan.FromSeconds(1);

    private bool _primary;

    /// <inheritdoc/>
    public string Place => _primary ? "its own memory" : $"the silo at {Primary}";

    /// <inheritdoc/>
    public bool IsLasting => false;

    private IPEndPoint Primary => settings.Join ?? new(settings.Advertise, ClusterSettings.PrimaryPort);

    /// <inheritdoc/>
    public async Task PrepareAsync(CancellationToken cancellation)
    {
        if (settings.Join is { } primary && !await Reachability.AnswersAsync(primary, cancellation))
        {
            throw new KreweException(
                $"no silo answers at {primary}: start the first one of cluster '{settings.Cluster}', or mend --join");
        }
    }

    /// <inheritdoc/>
    public (int Silo, int Gateway) PortsOf(ClusterSettings settings)
    {
        // The first silo of a machine takes the default port; whoever finds it taken joins that silo.
        _primary = settings.Join is null
            && (settings.SiloPort > 0 || FreePorts.IsFree(settings.Advertise, ClusterSettings.PrimaryPort));
        return IMembership.FreePortsOf(!_primary ? settings : settings with
        {
            SiloPort = settings.SiloPort > 0 ? settings.SiloPort : ClusterSettings.PrimaryPort,
            GatewayPort = settings.GatewayPort > 0 ? settings.GatewayPort : ClusterSettings.PrimaryGatewayPort,
        });
    }

    /// <inheritdoc/>
    public void Use(ISiloBuilder silo, IPEndPoint self) => silo.UseDevelopmentClustering(_primary ? self : Primary);

    /// <inheritdoc/>
    public void Use(IClientBuilder client) => client.UseStaticClustering(settings.Gateway);

    /// <inheritdoc/>
    public async Task<string> LostAsync(CancellationToken cancellation)
    {
        int missed = 0;
        while (_primary || missed < MissedAnswers)
        {
            await Task.Delay(WatchPeriod, cancellation);
            missed = _primary || await Reachability.AnswersAsync(Primary, cancellation) ? 0 : missed + 1;
        }

        return $"the first silo of cluster '{settings.Cluster}', at {Primary}, is gone and the cluster with it; to outlive " +
            "silos, a cluster needs --membership postgres or redis";
    }
}
