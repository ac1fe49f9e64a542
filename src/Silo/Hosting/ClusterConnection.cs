using System.Net;
using Krewe.Model;
using Krewe.Silo.Hosting.Membership;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Orleans.Configuration;
using Orleans.Runtime;

namespace Krewe.Silo.Hosting;

/// <summary>A silo of a cluster, as its membership table has it.</summary>
/// <param name="Name">Name of the silo.</param>
/// <param name="Address">Where other silos reach it, and which start of it this is.</param>
/// <param name="GatewayPort">Port for clients.</param>
/// <param name="State">Active, Joining, Dead and so on.</param>
/// <param name="Started">When it started, UTC.</param>
public sealed record SiloMember(string Name, SiloAddress Address, int GatewayPort, SiloStatus State, DateTime Started);

/// <summary>
/// A client of a cluster of processes. When the silo dies that it talks through, it goes on through another: calls in
/// flight fail, later ones do not.
/// </summary>
public sealed class ClusterConnection : ITrainingCluster
{
    private static readonly TimeSpan RetryPause = TimeSpan.FromMilliseconds(200);

    private readonly IHost _host;

    private ClusterConnection(IHost host, string cluster, string place)
    {
        _host = host;
        Cluster = cluster;
        Place = place;
        Grains = host.Services.GetRequiredService<IClusterClient>();
    }

    /// <summary>Name of the cluster.</summary>
    public string Cluster { get; }

    /// <summary>Where its silos meet, in words and without secrets.</summary>
    public string Place { get; }

    /// <inheritdoc/>
    public IGrainFactory Grains { get; }

    /// <inheritdoc/>
    public string[] SiloNames { get; private set; } = [];

    /// <summary>Connects, and lists the silos that are alive.</summary>
    /// <param name="settings">Which cluster.</param>
    /// <param name="verbose">Shows Orleans' own log on standard error.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="KreweException">No silo answers within the settings' deadline.</exception>
    public static async Task<ClusterConnection> ConnectAsync(
        ClusterSettings settings, bool verbose = false, CancellationToken cancellationToken = default)
    {
        settings.ThrowIfInvalid();
        IMembership membership = IMembership.Of(settings);
        await membership.PrepareAsync(cancellationToken);
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        deadline.CancelAfter(settings.ConnectDeadline);
        IHost host = Build(settings, membership, verbose, deadline.Token);
        string place = settings.Membership == MembershipKind.Localhost ? $"gateway {settings.Gateway}" : membership.Place;
        try
        {
            await host.StartAsync(deadline.Token);
            var connection = new ClusterConnection(host, settings.Cluster, place);
            SiloMember[] alive = await connection.MembersAsync().WaitAsync(deadline.Token);
            connection.SiloNames = [.. alive.Select(member => member.Name).Order(StringComparer.Ordinal)];
            return connection;
        }
        catch (Exception exception) when (!cancellationToken.IsCancellationRequested)
        {
            await SiloHost.AbandonAsync(host);
            throw new KreweException(
                $"no silo of cluster '{settings.Cluster}' answers ({place}): start one with " +
                $"'krewe silo --cluster {settings.Cluster}', or mend the cluster's name", exception);
        }
        catch
        {
            await SiloHost.AbandonAsync(host);
            throw;
        }
    }

    /// <summary>The silos of the cluster at this moment.</summary>
    /// <param name="onlyActive">Leaves out those that are dead, joining or leaving.</param>
    public async Task<SiloMember[]> MembersAsync(bool onlyActive = true)
    {
        MembershipEntry[] entries = await Grains.GetGrain<IManagementGrain>(0).GetDetailedHosts(onlyActive);
        return [.. entries.Select(entry => new SiloMember(
            entry.SiloName, entry.SiloAddress, entry.ProxyPort, entry.Status, entry.StartTime))
            .OrderBy(member => member.Name, StringComparer.Ordinal).ThenBy(member => member.Started)];
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync() => await SiloHost.StopAsync(_host);

    private static IHost Build(
        ClusterSettings settings, IMembership membership, bool verbose, CancellationToken deadline)
    {
        HostApplicationBuilder builder = SiloHost.Create(verbose);
        builder.UseOrleansClient(client =>
        {
            client.Configure<ClusterOptions>(options => options.ClusterId = options.ServiceId = settings.Cluster);
            membership.Use(client);
            client.Configure<ClientMessagingOptions>(messaging => messaging.ResponseTimeout = SiloHost.CallDeadline);
            client.Configure<GatewayOptions>(gateways => gateways.GatewayListRefreshPeriod = TimeSpan.FromSeconds(1));
            client.UseConnectionRetryFilter(async (_, _) =>
            {
                if (deadline.IsCancellationRequested)
                {
                    return false;
                }

                await Task.Delay(RetryPause, CancellationToken.None);
                return true;
            });
        });
        return builder.Build();
    }
}
