using System.Net;
using System.Net.Sockets;
using Krewe.Model;
using Krewe.Model.Tensors;
using Krewe.Silo.Hosting.Membership;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Hosting;
using Orleans.Configuration;
using Orleans.Runtime;

namespace Krewe.Silo.Hosting;

/// <summary>One silo of a cluster of processes, in this process.</summary>
public sealed class ClusterSilo : IAsyncDisposable
{
    private static readonly TimeSpan JoinDeadline = TimeSpan.FromSeconds(30);

    private readonly CancellationTokenSource _watching = new();
    private readonly IHost _host;
    private readonly ProcessDevices _devices;
    private int _disposed;
    private readonly TaskCompletionSource _stopping = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private ClusterSilo(IHost host, ProcessDevices devices)
    {
        _host = host;
        _devices = devices;
        host.Services.GetRequiredService<IHostApplicationLifetime>().ApplicationStopping.Register(
            () => _stopping.TrySetResult());
    }

    /// <summary>Name of the silo.</summary>
    public required string Name { get; init; }

    /// <summary>Where other silos reach it.</summary>
    public required IPEndPoint Address { get; init; }

    /// <summary>Where clients reach it.</summary>
    public required IPEndPoint Gateway { get; init; }

    /// <summary>Where the silos of its cluster meet, in words and without secrets.</summary>
    public required string Place { get; init; }

    /// <summary>Its devices, each a place of plans.</summary>
    public required IReadOnlyList<IDevice> Devices { get; init; }

    /// <summary>Computing threads of a CPU; 0 where all devices are GPUs.</summary>
    public required int Threads { get; init; }

    /// <summary>Services of the silo.</summary>
    public IServiceProvider Services => _host.Services;

    /// <summary>Starts the silo and waits until it is a member of its cluster.</summary>
    /// <param name="settings">Which cluster, and as whom.</param>
    /// <param name="end">
    /// Gets one line and ends the process, where the cluster has given up this silo or has ended, or its last device is
    /// lost.
    /// </param>
    /// <param name="verbose">Shows Orleans' own log on standard error.</param>
    /// <param name="notice">
    /// Gets one line where one of several devices is lost, and the silo goes on with the others.
    /// </param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="KreweException">It cannot join; the message says why.</exception>
    public static async Task<ClusterSilo> StartAsync(
        ClusterSettings settings, Action<string> end, bool verbose = false, Action<string>? notice = null,
        CancellationToken cancellationToken = default)
    {
        settings.ThrowIfInvalid();
        DeviceName.ThrowIfMissing(settings.Devices);
        IMembership membership = IMembership.Of(settings);
        await membership.PrepareAsync(cancellationToken);
        bool isLocal = FreePorts.IsFree(settings.Advertise, 0);
        (int siloPort, int gatewayPort) = membership.PortsOf(isLocal ? settings : settings with { Advertise = IPAddress.Any });
        foreach (int port in new[] { siloPort, gatewayPort })
        {
            if (!FreePorts.IsFree(isLocal ? settings.Advertise : IPAddress.Any, port))
            {
                throw new KreweException($"port {port} of {settings.Advertise} is taken: give another, or none for a free one");
            }
        }

        string name = settings.NameOrUnique();
        int threads = settings.CpuThreads > 0 ? settings.CpuThreads : Environment.ProcessorCount;
        var devices = new ProcessDevices(settings.Devices, threads);
        IDevice[] opened = devices.Open(0, settings.Devices.Count);
        var address = new IPEndPoint(settings.Advertise, siloPort);
        var options = new SiloHostOptions
        {
            Name = name,
            Devices = opened,
            Verbose = verbose,
            Sockets = settings.Sockets,
        };
        IHost host = SiloHost.Build(options, silo =>
        {
            silo.Configure<ClusterOptions>(options => options.ClusterId = options.ServiceId = settings.Cluster);
            silo.ConfigureEndpoints(settings.Advertise, siloPort, gatewayPort, listenOnAnyHostAddress: !isLocal);
            membership.Use(silo, address);
            silo.Configure<ClusterMembershipOptions>(MembershipTuning.Apply);
            silo.Configure<GrainDirectoryOptions>(MembershipTuning.Apply);
            silo.Services.AddSingleton<ILifecycleParticipant<ISiloLifecycle>, JoinCheck>();
            silo.Services.Replace(ServiceDescriptor.Singleton<IFatalErrorHandler>(new FatalErrors(name, settings.Cluster, end)));
        });
        var started = new ClusterSilo(host, devices)
        {
            Name = name,
            Address = address,
            Gateway = new(settings.Advertise, gatewayPort),
            Place = membership.Place,
            Devices = opened,
            Threads = settings.Devices.All(device => device.IsCuda) ? 0 : threads,
        };
        await started.JoinAsync(settings, membership, end, cancellationToken);
        foreach (IDevice device in opened)
        {
            device.Loss.Register(loss => started.Lose(loss, settings.Cluster, end, notice));
        }

        return started;
    }

    /// <summary>A device is lost: its place is retired, and with the last one the silo ends.</summary>
    private void Lose(DeviceLostException loss, string cluster, Action<string> end, Action<string>? notice)
    {
        string[] left = [.. Devices.Where(device => !device.Loss.IsLost).Select(device => device.Name)];
        if (left.Length > 0)
        {
            notice?.Invoke(
                $"silo '{Name}' of cluster '{cluster}' goes on with {string.Join(" and ", left)}: {loss.Message}; only a " +
                "new start of the silo can use that device again");
            return;
        }

        // As a dead one: no farewell, which would wait for what computes; the others notice within a second.
        end($"silo '{Name}' of cluster '{cluster}' ends, as a dead one does: {loss.Message}; runs go on with the " +
            "other silos; start it again to join anew ('krewe devices' shows whether the device answers)");
    }

    /// <summary>Completes when the silo is asked to leave, by a grain call or by the token.</summary>
    public async Task WaitForStopAsync(CancellationToken cancellationToken)
    {
        await using CancellationTokenRegistration registration = cancellationToken.Register(() => _stopping.TrySetResult());
        await _stopping.Task;
    }

    /// <summary>Leaves the cluster: the others learn of it at once.</summary>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
        {
            await _watching.CancelAsync();
            await SiloHost.StopAsync(_host);
            _devices.Dispose();
            _watching.Dispose();
        }
    }

    private async Task JoinAsync(
        ClusterSettings settings, IMembership membership, Action<string> end, CancellationToken cancellationToken)
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        deadline.CancelAfter(JoinDeadline);
        try
        {
            if (membership.IsLasting)
            {
                await StaleSilos.SettleAsync(
                    Services.GetRequiredService<IMembershipTable>(), settings.Cluster, Name, Address, TimeProvider.System,
                    deadline.Token);
            }

            // Not every stage of Orleans' start looks at its token.
            await _host.StartAsync(deadline.Token).WaitAsync(deadline.Token);
        }
        catch (Exception exception)
        {
            await SiloHost.AbandonAsync(_host);
            _devices.Dispose();
            _watching.Dispose();
            cancellationToken.ThrowIfCancellationRequested();
            if (exception.GetBaseException() is SocketException { SocketErrorCode: SocketError.AddressAlreadyInUse })
            {
                throw new KreweException($"port {Address.Port} or {Gateway.Port} of {Address.Address} is taken: give others", exception);
            }

            if (exception is OperationCanceledException)
            {
                throw new KreweException(
                    $"silo '{Name}' could not join cluster '{settings.Cluster}' within {JoinDeadline.TotalSeconds:F0} s " +
                    $"(membership in {Place}): is that another cluster's? --verbose shows why", exception);
            }

            throw;
        }

        _ = WatchAsync(membership, end);
    }

    private async Task WatchAsync(IMembership membership, Action<string> end)
    {
        try
        {
            end(await membership.LostAsync(_watching.Token));
        }
        catch (OperationCanceledException)
        {
            // The silo leaves.
        }
    }
}
