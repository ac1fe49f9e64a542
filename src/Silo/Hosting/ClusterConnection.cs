using System.Net;
using Krewe.Grains.Interfaces.Devices;
using Krewe.Model;
using Krewe.Silo.Hosting.Membership;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Orleans.Configuration;
using Orleans.Messaging;
using Orleans.Runtime;
using Orleans.Runtime.Messaging;

namespace Krewe.Silo.Hosting;

/// <summary>A silo of a cluster, as its membership table has it.</summary>
/// <param name="Name">Name of the silo.</param>
/// <param name="Address">Where other silos reach it, and which start of it this is.</param>
/// <param name="GatewayPort">Port for clients.</param>
/// <param name="State">Active, Joining, Dead and so on.</param>
/// <param name="Started">When it started, UTC.</param>
public sealed record SiloMember(string Name, SiloAddress Address, int GatewayPort, SiloStatus State, DateTime Started);

/// <summary>
/// A client of a cluster of processes. When any of its silos dies or leaves, calls in flight fail with
/// <see cref="SiloUnavailableException"/>, carried out or not, within some seconds; the caller asks again. The client
/// talks through one silo at a time, and goes on through another when that is lost.
/// </summary>
public sealed class ClusterConnection : ITrainingCluster
{
    private static readonly TimeSpan RetryPause = TimeSpan.FromMilliseconds(200);

    private static readonly TimeSpan WatchPeriod = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan WatchDeadline = TimeSpan.FromSeconds(3);

    /// <summary>A silo that hangs is not waited for.</summary>
    private static readonly TimeSpan AnswerDeadline = TimeSpan.FromSeconds(5);

    private const int MostTries = 5;

    private readonly CancellationTokenSource _watching = new();
    private readonly IHost _host;
    private readonly SiloLoss _loss;
    private Task _watch = Task.CompletedTask;

    private ClusterConnection(IHost host, SiloLoss loss, string cluster, string place)
    {
        _host = host;
        _loss = loss;
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
            var loss = new SiloLoss();
            IHost host = Build(settings, membership, loss, verbose, avoided, attempt.Token);
            try
            {
                await host.StartAsync(attempt.Token).WaitAsync(attempt.Token);
                var connection = new ClusterConnection(host, loss, settings.Cluster, place);
                SiloMember[] alive = await connection.MembersAsync().WaitAsync(attempt.Token);
                connection.SiloNames = [.. alive.Select(member => member.Name).Order(StringComparer.Ordinal)];
                connection._watch = connection.WatchAsync(alive);
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
        MembershipEntry[]? entries = null;
        for (int tries = 1; entries is null; tries++)
        {
            try
            {
                entries = await Grains.GetGrain<IManagementGrain>(0).GetDetailedHosts(onlyActive);
            }
            catch (SiloUnavailableException) when (tries < MostTries)
            {
                // A question that changes nothing may be asked again.
            }
        }

        return [.. entries.Select(entry => new SiloMember(
            entry.SiloName, entry.SiloAddress, entry.ProxyPort, entry.Status, entry.StartTime))
            .OrderBy(member => member.Name, StringComparer.Ordinal).ThenBy(member => member.Started)];
    }

    /// <inheritdoc/>
    public async Task<string[]> PlacesAsync()
    {
        PlaceStatus[][] places = await Task.WhenAll(SiloNames.Select(AskPlacesAsync));
        string[] names = [.. places.SelectMany(all => all.Where(place => !place.IsLost)).Select(place => place.Name)];
        return names.Length > 0 ? names : throw new KreweException(
            $"no silo of cluster '{Cluster}' says what it computes on: 'krewe status --cluster {Cluster}' shows them");
    }

    /// <summary>The places of a silo; none where it does not answer.</summary>
    public async Task<PlaceStatus[]> AskPlacesAsync(string silo)
    {
        try
        {
            return await Grains.GetGrain<IDeviceGrain>(silo).PlacesAsync().WaitAsync(AnswerDeadline);
        }
        catch (Exception exception)
            when (exception is OrleansException or ConnectionFailedException or TimeoutException)
        {
            return [];
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _watching.CancelAsync();
        await _watch;
        await SiloHost.StopAsync(_host);
        _watching.Dispose();
    }

    /// <summary>Fails the calls in flight whenever a silo is no longer active.</summary>
    private async Task WatchAsync(SiloMember[] active)
    {
        while (true)
        {
            try
            {
                await Task.Delay(WatchPeriod, _watching.Token);
                SiloMember[] now = await MembersAsync().WaitAsync(WatchDeadline, _watching.Token);
                SiloMember? lost = active.FirstOrDefault(before => !now.Any(member => member.Address.Equals(before.Address)));
                active = now;
                if (lost is not null)
                {
                    _loss.Report($"silo '{lost.Name}'");
                }
            }
            catch (OperationCanceledException) when (_watching.IsCancellationRequested)
            {
                return;
            }
#pragma warning disable CA1031 // The silo that was asked is the one that dies, or there is none at all: ask again.
            catch (Exception)
            {
            }
#pragma warning restore CA1031
        }
    }

    private static IHost Build(
        ClusterSettings settings, IMembership membership, SiloLoss loss, bool verbose, HashSet<Uri> avoided,
        CancellationToken attempt)
    {
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
