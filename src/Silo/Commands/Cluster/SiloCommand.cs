using System.CommandLine;
using System.Diagnostics;
using System.Text.Json.Nodes;
using Krewe.Silo.Hosting;

namespace Krewe.Silo.Commands.Cluster;

/// <summary><c>krewe silo</c>: one silo of a cluster of processes, until it is told to leave.</summary>
internal static class SiloCommand
{
    private static readonly TimeSpan ExitDeadline = TimeSpan.FromSeconds(10);

    /// <summary>The command.</summary>
    public static Command Create(Terminal terminal)
    {
        var options = new SiloOptions();
        Option<bool> json = SharedOptions.Json("Ready and left as JSON lines, one object each");
        var command = new ToolCommand(
            "silo", "Runs one silo of a cluster until Ctrl-C, SIGTERM or a drain; holds experts and stages of whatever is trained.",
            "krewe silo --cluster lab                      the first is the cluster's primary, others of this machine join it",
            "krewe silo --cluster lab --name a --membership redis --connection 127.0.0.1:6379",
            "krewe silo --cluster lab --membership postgres --connection \"Host=db;Database=krewe\" --advertise 10.0.0.5",
            "krewe silo --cluster lab --device cuda:0         computes on the first GPU",
            "krewe silo --cluster lab --device cuda:0,cuda:1  on two of them, each a place of its own",
            "krewe silo --settings cluster.json --name b   everything else from section Krewe of a file");
        options.AddTo(command);
        command.Add(json);
        command.SetAction(async (parsed, cancellation) =>
        {
            long start = Stopwatch.GetTimestamp();
            ClusterSettings settings = options.Read(parsed);
            await using ClusterSilo silo = await ClusterSilo.StartAsync(
                settings, End(terminal), parsed.GetValue<bool>("--verbose"),
                line => terminal.Error.WriteLine($"krewe: {Faults.OneLine(line)}"), cancellation);
            bool asJson = parsed.GetValue(json);
            Ready(terminal, settings, silo, asJson, Stopwatch.GetElapsedTime(start));
            await silo.WaitForStopAsync(cancellation);
            await silo.DisposeAsync();
            Left(terminal, settings, silo, asJson);
            return ExitCode.Fine;
        });
        return command;
    }

    /// <summary>
    /// The end of a silo that its cluster has given up, or that has lost its device: nothing of it may go on computing.
    /// The first reason is the one that is told.
    /// </summary>
    private static Action<string> End(Terminal terminal)
    {
        int ended = 0;
        return line =>
        {
            if (Interlocked.Exchange(ref ended, 1) == 0)
            {
                terminal.Error.WriteLine($"krewe: {Faults.OneLine(line)}");
                new Thread(KillWhatStays) { IsBackground = true }.Start();
                Environment.Exit(ExitCode.Failed);
            }
        };
    }

    /// <summary>A driver that has lost its card may keep the process from ending.</summary>
    private static void KillWhatStays()
    {
        Thread.Sleep(ExitDeadline);
        using Process own = Process.GetCurrentProcess();
        own.Kill();
    }

    private static void Ready(Terminal terminal, ClusterSettings settings, ClusterSilo silo, bool json, TimeSpan time)
    {
        string devices = string.Join(',', silo.Devices.Select(device => device.Name));
        string kernels = string.Join(", ", silo.Devices.Select(device => device.Kernels.Name).Distinct());
        if (json)
        {
            Json.Write(terminal.Out, new JsonObject
            {
                ["event"] = "ready",
                ["name"] = silo.Name,
                ["cluster"] = settings.Cluster,
                ["membership"] = ClusterSettingsReader.NameOf(settings.Membership),
                ["address"] = $"{silo.Address}",
                ["gateway"] = $"{silo.Gateway}",
                ["device"] = devices,
                ["kernels"] = kernels,
                ["threads"] = silo.Threads,
                ["pid"] = Environment.ProcessId,
                ["seconds"] = Json.Number(time.TotalSeconds),
            });
            return;
        }

        terminal.Out.WriteLine(
            $"silo '{silo.Name}' of cluster '{settings.Cluster}' is ready: {silo.Address}, gateway port {silo.Gateway.Port}, " +
            $"{devices} ({kernels}" +
            (silo.Threads == 0 ? "" : $", {silo.Threads} thread{(silo.Threads == 1 ? "" : "s")}") + "), " +
            $"membership in {silo.Place}; Ctrl-C leaves");
    }

    private static void Left(Terminal terminal, ClusterSettings settings, ClusterSilo silo, bool json)
    {
        if (json)
        {
            Json.Write(terminal.Out, new JsonObject
            {
                ["event"] = "left",
                ["name"] = silo.Name,
                ["cluster"] = settings.Cluster,
            });
            return;
        }

        terminal.Out.WriteLine($"silo '{silo.Name}' has left cluster '{settings.Cluster}'");
    }
}
