using System.Net;
using Krewe.Model;
using Krewe.Silo.Hosting.Membership;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Orleans.Configuration;
using Orleans.Messaging;
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
/// A client of a cluster of processes. It talks through one silo; when that dies or leaves, calls in flight fail with
/// <see cref="SiloUnavailableException"/>, carried out or not, and later ones go through another, a second or two on.
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
        string place = settings.Membership == MembershipKind.Localhost ? $"gateway {settings.Gateway}" : membership.Place;
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        deadline.CancelAfter(settings.ConnectDeadline);
        var avoided = new HashSet<Uri>();
        Exception? last = null;
        while (!deadline.IsCancellationRequested)
        {
            using var attempt = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token);
            attempt.CancelAfter(settings.ConnectDeadline / 3);
            IHost host = Build(settings, membership, verbose, avoided, attempt.Token);
            try
            {
                await host.StartAsync(attempt.Token).WaitAsync(attempt.Token);
                var connection = new ClusterConnection(host, settings.Cluster, place);
                SiloMember[] alive = await connection.MembersAsync().WaitAsync(attempt.Token);
                connection.SiloNames = [.. alive.Select(member => member.Name).Order(StringComparer.Ordinal)];
                return connection;
            }
#pragma warning disable CA1031 // Whatever Orleans throws, the attempt has failed and another gateway may answer.
            catch (Exception exception)
            {
                last = exception;
            }
#pragma warning restore CA1031

            // A silo that hangs takes connections and says nothing: the next attempt goes to another, while there is one.
            Uri? tried = (host.Services.GetRequiredService<IGatewayListProvider>() as SingleGateway)?.Current;
            if (tried is null || !avoided.Add(tried))
            {
                avoided.Clear();
            }

            await SiloHost.AbandonAsync(host);
        }

        cancellationToken.ThrowIfCancellationRequested();
        throw new KreweException(
            $"no silo of cluster '{settings.Cluster}' answers ({place}): start one with " +
            $"'krewe silo --cluster {settings.Cluster}', or mend the cluster's name", last);
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
        ClusterSettings settings, IMembership membership, bool verbose, HashSet<Uri> avoided, CancellationToken attempt)
    {
        var loss = new GatewayLoss();
        HostApplicationBuilder builder = SiloHost.Create(verbose);
        builder.UseOrleansClient(client =>
        {
            client.Configure<ClusterOptions>(options => options.ClusterId = options.ServiceId = settings.Cluster);
            membership.Use(client);
            SingleGateway.Use(client.Services, loss, avoided);
            client.AddOutgoingGrainCallFilter(loss);
            client.Configure<ClientMessagingOptions>(messaging => messaging.ResponseTimeout = SiloHost.CallDeadline);
            client.Configure<GatewayOptions>(gateways => gateways.GatewayListRefreshPeriod = TimeSpan.FromSeconds(1));
            client.UseConnectionRetryFilter(async (_, _) =>
            {
                if (attempt.IsCancellationRequested)
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
