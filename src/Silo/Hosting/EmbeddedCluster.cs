using System.Net;
using System.Net.Sockets;
using Krewe.Grains;
using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Tensors;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Orleans.Configuration;

namespace Krewe.Silo.Hosting;

/// <summary>How an embedded cluster is built.</summary>
public sealed record EmbeddedClusterOptions
{
    /// <summary>Number of silos, at least 1.</summary>
    public int Silos { get; init; } = 2;

    /// <summary>Compute threads that all silos of the process share; 0 for one per core.</summary>
    public int CpuThreads { get; init; }

    /// <summary>Shows Orleans' own log on standard error.</summary>
    public bool Verbose { get; init; }

    /// <summary>Sends tensors as bytes even within the process; for tests.</summary>
    public bool InBand { get; init; }
}

/// <summary>
/// A cluster of real silos in this process: each with its own host, ports on loopback, device and grains, all sharing
/// one pool of compute threads.
/// </summary>
public sealed class EmbeddedCluster : IAsyncDisposable
{
    /// <summary>
    /// A step of a large model may take minutes; a silo that dies is noticed by its probes long before.
    /// </summary>
    private static readonly TimeSpan CallDeadline = TimeSpan.FromMinutes(10);

    private readonly List<IHost> _hosts;
    private readonly ComputePool _pool;

    private EmbeddedCluster(List<IHost> hosts, ComputePool pool, string[] names)
    {
        _hosts = hosts;
        _pool = pool;
        SiloNames = names;
        Grains = hosts[0].Services.GetRequiredService<IGrainFactory>();
    }

    /// <summary>Reaches every grain of the cluster.</summary>
    public IGrainFactory Grains { get; }

    /// <summary>Names of the silos, as placement plans know them.</summary>
    public string[] SiloNames { get; }

    /// <summary>Services of a silo.</summary>
    public IServiceProvider ServicesOf(int silo) => _hosts[silo].Services;

    /// <summary>Starts the silos and waits until they are one cluster.</summary>
    public static async Task<EmbeddedCluster> StartAsync(
        EmbeddedClusterOptions options, CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Silos, 1);
        int threads = options.CpuThreads > 0 ? options.CpuThreads : Environment.ProcessorCount;
        var pool = ComputePool.ForThisMachine(threads);
        var hosts = new List<IHost>();
        string[] names = [.. Enumerable.Range(0, options.Silos).Select(silo => $"silo-{silo}")];
        int[] ports = FreePorts(2 * options.Silos);
        string cluster = $"krewe-{Guid.NewGuid():N}";
        try
        {
            for (int silo = 0; silo < options.Silos; silo++)
            {
                var device = new CpuDevice(pool, $"cpu:{silo}");
                hosts.Add(Build(
                    options, cluster, names[silo], ports[2 * silo], ports[(2 * silo) + 1], ports[0], device));
            }

            // The first silo holds the membership table that the others read.
            await hosts[0].StartAsync(cancellationToken);
            await Task.WhenAll(hosts.Skip(1).Select(host => host.StartAsync(cancellationToken)));
            return new(hosts, pool, names);
        }
        catch
        {
            await StopAsync(hosts, pool);
            throw;
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync() => await StopAsync(_hosts, _pool);

    private static IHost Build(
        EmbeddedClusterOptions options, string cluster, string name, int siloPort, int gatewayPort, int primaryPort,
        CpuDevice device)
    {
        // An empty builder: no configuration files, no console lifetime that would take Ctrl-C from the command.
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(new());
        builder.Logging.SetMinimumLevel(options.Verbose ? LogLevel.Information : LogLevel.Error);
        if (options.Verbose)
        {
            builder.Logging.AddSimpleConsole();
            builder.Services.Configure<Microsoft.Extensions.Logging.Console.ConsoleLoggerOptions>(
                console => console.LogToStandardErrorThreshold = LogLevel.Trace);
        }

        builder.UseOrleans(silo =>
        {
            silo.UseLocalhostClustering(
                siloPort, gatewayPort, new IPEndPoint(IPAddress.Loopback, primaryPort), cluster, cluster);
            silo.AddKrewe(name, _ => device, options.InBand);
            silo.Configure<SiloMessagingOptions>(messaging =>
            {
                messaging.ResponseTimeout = CallDeadline;
                messaging.SystemResponseTimeout = CallDeadline;
            });
            silo.Configure<ClusterMembershipOptions>(membership =>
            {
                // All silos live and die with this process; probing the others would only steal time from the kernels.
                membership.ProbeTimeout = TimeSpan.FromSeconds(30);
                membership.LivenessEnabled = false;
            });
        });
        return builder.Build();
    }

    private static async Task StopAsync(List<IHost> hosts, ComputePool pool)
    {
        // The first silo goes last: it holds the membership table.
        foreach (IHost host in Enumerable.Reverse(hosts))
        {
            using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(10));
            try
            {
                await host.StopAsync(deadline.Token);
            }
            catch (OperationCanceledException)
            {
                // The deadline passed; disposing ends what is left.
            }

            if (host is IAsyncDisposable disposable)
            {
                await disposable.DisposeAsync();
            }
        }

        pool.Dispose();
    }

    /// <summary>Ports that nobody listens on at this moment.</summary>
    private static int[] FreePorts(int count)
    {
        var listeners = new List<TcpListener>();
        try
        {
            for (int i = 0; i < count; i++)
            {
                var listener = new TcpListener(IPAddress.Loopback, 0);
                listener.Start();
                listeners.Add(listener);
            }

            return [.. listeners.Select(listener => ((IPEndPoint)listener.LocalEndpoint).Port)];
        }
        finally
        {
            listeners.ForEach(listener => listener.Stop());
        }
    }
}
