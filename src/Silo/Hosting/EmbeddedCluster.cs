using System.Net;
using Krewe.Grains.Devices.Channel;
using Krewe.Grains.Interfaces.Devices;
using Krewe.Model.Tensors;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Orleans.Configuration;

namespace Krewe.Silo.Hosting;

/// <summary>How an embedded cluster is built.</summary>
public sealed record EmbeddedClusterOptions
{
    /// <summary>Number of silos, at least 1.</summary>
    public int Silos { get; init; } = 2;

    /// <summary>Compute threads that all silos of the process share; 0 for one per core.</summary>
    public int CpuThreads { get; init; }

    /// <summary>
    /// Devices of the silos; the CPU by default. No more than there are silos go round, one for each; of more, each
    /// silo gets several, neighbouring ones.
    /// </summary>
    public IReadOnlyList<DeviceName> Devices { get; init; } = [DeviceName.Cpu];

    /// <summary>Shows Orleans' own log on standard error.</summary>
    public bool Verbose { get; init; }

    /// <summary>Sends tensors through the channel, or as bytes, even within the process; for tests.</summary>
    public bool InBand { get; init; }

    /// <summary>Settings of every silo's tensor channel; null for the defaults.</summary>
    public TensorChannelOptions? Channel { get; init; }

    /// <summary>Wraps every device, such as in one of a set pace; for tests and benchmarks.</summary>
    public Func<IDevice, IDevice>? Device { get; init; }
}

/// <summary>
/// A cluster of real silos in this process: each with its own host, ports on loopback, devices and grains; those that
/// compute on the CPU share one pool of threads.
/// </summary>
public sealed class EmbeddedCluster : ITrainingCluster
{
    private readonly List<IHost> _hosts;
    private readonly ProcessDevices _devices;

    private EmbeddedCluster(List<IHost> hosts, ProcessDevices devices, string[] names, string[] places)
    {
        PlaceNames = places;
        _hosts = hosts;
        _devices = devices;
        SiloNames = names;
        Grains = hosts[0].Services.GetRequiredService<IGrainFactory>();
    }

    /// <inheritdoc/>
    public IGrainFactory Grains { get; }

    /// <inheritdoc/>
    public string[] SiloNames { get; }

    /// <summary>Names of the places: the devices of all silos, in their order.</summary>
    public string[] PlaceNames { get; }

    /// <inheritdoc/>
    public Task<string[]> PlacesAsync() => Task.FromResult(PlaceNames);

    /// <summary>Services of a silo.</summary>
    public IServiceProvider ServicesOf(int silo) => _hosts[silo].Services;

    /// <summary>Starts the silos and waits until they are one cluster.</summary>
    public static async Task<EmbeddedCluster> StartAsync(
        EmbeddedClusterOptions options, CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Silos, 1);
        var devices = new ProcessDevices(options.Devices, options.CpuThreads);
        var hosts = new List<IHost>();
        string[] names = [.. Enumerable.Range(0, options.Silos).Select(silo => $"silo-{silo}")];
        int[] ports = FreePorts.Of(IPAddress.Loopback, 2 * options.Silos);
        string cluster = $"krewe-{Guid.NewGuid():N}";
        int[] shares = ProcessDevices.Share(options.Devices.Count, options.Silos);
        try
        {
            for (int silo = 0; silo < options.Silos; silo++)
            {
                IDevice[] own = devices.Open(shares.Take(silo).Sum(), shares[silo]);
                var member = new SiloHostOptions
                {
                    Name = names[silo],
                    Devices = options.Device is { } wrap ? Array.ConvertAll(own, device => wrap(device)) : own,
                    Verbose = options.Verbose,
                    InBand = options.InBand,
                    Channel = options.Channel,
                };
                (int siloPort, int gatewayPort) = (ports[2 * silo], ports[(2 * silo) + 1]);
                hosts.Add(SiloHost.Build(member, builder => Join(builder, cluster, siloPort, gatewayPort, ports[0])));
            }

            // The first silo holds the membership table that the others read.
            await hosts[0].StartAsync(cancellationToken);
            await Task.WhenAll(hosts.Skip(1).Select(host => host.StartAsync(cancellationToken)));
            string[] places = [.. names.SelectMany((name, silo) =>
                Enumerable.Range(0, shares[silo]).Select(number => PlaceName.Of(name, number)))];
            return new(hosts, devices, names, places);
        }
        catch
        {
            await StopAsync(hosts, devices);
            throw;
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync() => await StopAsync(_hosts, _devices);

    private static void Join(ISiloBuilder silo, string cluster, int siloPort, int gatewayPort, int primaryPort)
    {
        silo.UseLocalhostClustering(
            siloPort, gatewayPort, new IPEndPoint(IPAddress.Loopback, primaryPort), cluster, cluster);
        silo.Configure<ClusterMembershipOptions>(membership =>
        {
            // All silos live and die with this process; probing the others would only steal time from the kernels.
            membership.ProbeTimeout = TimeSpan.FromSeconds(30);
            membership.LivenessEnabled = false;
        });
    }

    private static async Task StopAsync(List<IHost> hosts, ProcessDevices devices)
    {
        // The first silo goes last: it holds the membership table.
        foreach (IHost host in Enumerable.Reverse(hosts))
        {
            await SiloHost.StopAsync(host);
        }

        devices.Dispose();
    }
}
