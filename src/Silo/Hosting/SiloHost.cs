using Krewe.Grains;
using Krewe.Grains.Devices.Channel;
using Krewe.Model.Tensors;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Orleans.Configuration;

namespace Krewe.Silo.Hosting;

/// <summary>What every silo has, whatever cluster it joins.</summary>
internal sealed record SiloHostOptions
{
    /// <summary>Name of the silo, as placement plans know it.</summary>
    public required string Name { get; init; }

    /// <summary>Its devices; the silo disposes them.</summary>
    public required IReadOnlyList<IDevice> Devices { get; init; }

    /// <summary>Shows Orleans' own log on standard error.</summary>
    public bool Verbose { get; init; }

    /// <summary>Sends tensors as bytes even within the process; for tests.</summary>
    public bool InBand { get; init; }

    /// <summary>Settings of the tensor channel; null for the silo's own address.</summary>
    public TensorChannelOptions? Channel { get; init; }

    /// <summary>Folder of the tensor channel's Unix-domain socket, where <see cref="Channel"/> is null; null for the usual one.</summary>
    public string? Sockets { get; init; }
}

/// <summary>Builds and stops the hosts of silos and clients: those of an embedded cluster and those of a real one.</summary>
internal static class SiloHost
{
    /// <summary>
    /// A step of a large model may take minutes; a silo that dies is noticed by its probes long before.
    /// </summary>
    public static readonly TimeSpan CallDeadline = TimeSpan.FromMinutes(10);

    private static readonly TimeSpan StopDeadline = TimeSpan.FromSeconds(10);

    /// <summary>A silo's host, not yet started.</summary>
    /// <param name="options">What every silo has.</param>
    /// <param name="membership">Endpoints, cluster and the way its silos find each other.</param>
    public static IHost Build(SiloHostOptions options, Action<ISiloBuilder> membership)
    {
        HostApplicationBuilder builder = Create(options.Verbose);
        builder.UseOrleans(silo =>
        {
            membership(silo);
            silo.AddKrewe(options.Name, _ => options.Devices, options.InBand, options.Channel, options.Sockets);
            silo.Configure<SiloMessagingOptions>(messaging =>
            {
                messaging.ResponseTimeout = CallDeadline;
                messaging.SystemResponseTimeout = CallDeadline;
            });
        });
        return builder.Build();
    }

    /// <summary>An empty builder: no configuration files, and a log only where the user wants one.</summary>
    public static HostApplicationBuilder Create(bool verbose)
    {
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(new());
        // Signals belong to the command; the host's own lifetime would end it behind its back.
        builder.Services.AddSingleton<IHostLifetime, CommandLifetime>();
        builder.Logging.SetMinimumLevel(verbose ? LogLevel.Information : LogLevel.Error);
        if (verbose)
        {
            builder.Logging.AddSimpleConsole();
            builder.Services.Configure<Microsoft.Extensions.Logging.Console.ConsoleLoggerOptions>(
                console => console.LogToStandardErrorThreshold = LogLevel.Trace);
        }

        return builder;
    }

    /// <summary>Stops a host within some seconds and frees it.</summary>
    public static async Task StopAsync(IHost host)
    {
        using var deadline = new CancellationTokenSource(StopDeadline);
        try
        {
            await host.StopAsync(deadline.Token);
        }
        catch (OperationCanceledException)
        {
            // The deadline passed; disposing ends what is left.
        }
        catch (InvalidOperationException)
        {
            // Orleans refuses to stop a silo whose start has failed: that one is down already.
        }

        if (host is IAsyncDisposable disposable)
        {
            await disposable.DisposeAsync();
        }
    }

    /// <summary>Ends a host whose start has failed, however far it came; gives up on one that hangs.</summary>
    public static async Task AbandonAsync(IHost host)
    {
        try
        {
            await StopAsync(host).WaitAsync(StopDeadline);
        }
#pragma warning disable CA1031 // The fault that ended the start is the one to report.
        catch (Exception)
        {
        }
#pragma warning restore CA1031
    }

    private sealed class CommandLifetime : IHostLifetime
    {
        public Task WaitForStartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }
}
