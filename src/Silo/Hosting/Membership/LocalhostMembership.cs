using System.Net;

namespace Krewe.Silo.Hosting.Membership;

/// <summary>
/// A table in the memory of the cluster's first silo, its primary. No server is needed, and the primary's death ends
/// the cluster.
/// </summary>
internal sealed class LocalhostMembership(ClusterSettings settings) : IMembership
{
    private bool _primary;

    /// <inheritdoc/>
    public string Place => _primary ? "its own memory" : $"the silo at {Primary}";

    private IPEndPoint Primary => settings.Join ?? new(settings.Advertise, ClusterSettings.PrimaryPort);

    /// <inheritdoc/>
    public Task PrepareAsync(CancellationToken cancellation) => Task.CompletedTask;

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
}
