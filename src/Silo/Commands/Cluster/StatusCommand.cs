using System.CommandLine;
using System.Globalization;
using System.Text.Json.Nodes;
using Krewe.Grains.Interfaces.Devices;
using Krewe.Silo.Commands.Train;
using Krewe.Silo.Hosting;
using Orleans.Runtime;
using Spectre.Console;

namespace Krewe.Silo.Commands.Cluster;

/// <summary><c>krewe status</c>: silos, grains and runs of a cluster.</summary>
internal static class StatusCommand
{
    /// <summary>The command.</summary>
    public static Command Create(Terminal terminal)
    {
        var options = new ClusterOptions();
        var all = new Option<bool>("--all") { Description = "Also silos that died or left, as long as the cluster remembers them" };
        Option<bool> json = SharedOptions.Json("Everything as one JSON object");
        var command = new ToolCommand(
            "status",
            "Shows a cluster: its silos and their devices, each a place, which models they hold, grains, runs and how far " +
            "they are.",
            "krewe status --cluster lab",
            "krewe status --cluster lab --membership redis --connection 127.0.0.1:6379 --json");
        options.AddTo(command);
        command.Add(all);
        command.Add(json);
        command.SetAction(async (parsed, cancellation) =>
        {
            ClusterSettings settings = options.Read(parsed);
            await using ClusterConnection cluster = await ClusterConnection.ConnectAsync(
                settings, parsed.GetValue<bool>("--verbose"), cancellation);
            ClusterReport report = await ClusterReport.ReadAsync(cluster, parsed.GetValue(all));
            if (parsed.GetValue(json))
            {
                Json.Write(terminal.Out, ToJson(cluster, report));
            }
            else
            {
                Print(terminal, cluster, report);
            }

            return ExitCode.Fine;
        });
        return command;
    }

    private static JsonObject ToJson(ClusterConnection cluster, ClusterReport report) => new()
    {
        ["cluster"] = cluster.Cluster,
        ["membership"] = cluster.Place,
        ["silos"] = new JsonArray([.. report.Silos.Select(silo => (JsonNode)new JsonObject
        {
            ["name"] = silo.Member.Name,
            ["address"] = $"{silo.Member.Address.Endpoint}",
            ["gateway_port"] = silo.Member.GatewayPort,
            ["state"] = StateOf(silo),
            ["started"] = silo.Member.Started.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture),
            ["device"] = Joined(",", silo.Places.Select(place => place.Device)),
            ["kernels"] = Joined(", ", silo.Places.Select(place => place.Kernels).Distinct()),
            ["reserved_bytes"] = silo.Places.Count > 0 ? silo.Places.Sum(place => place.ReservedBytes) : null,
            ["models"] = ToJson(silo.Places.SelectMany(place => place.Models).GroupBy(model => model.Name)
                .Select(model => new HostedModelStatus(
                    model.Key, model.Sum(part => part.Experts), model.Sum(part => part.Stages)))),
            ["places"] = new JsonArray([.. silo.Places.Select(place => (JsonNode)new JsonObject
            {
                ["name"] = place.Silo,
                ["device"] = place.Device,
                ["kernels"] = place.Kernels,
                ["lost"] = place.IsLost,
                ["reserved_bytes"] = place.ReservedBytes,
                ["models"] = ToJson(place.Models),
            })]),
        })]),
        ["grains"] = report.Grains is { } grains
            ? new JsonObject(grains.Select(kind => KeyValuePair.Create(kind.Key, (JsonNode?)kind.Value)))
            : null,
        ["runs"] = report.Runs is { } runs ? new JsonArray([.. runs.Select(run => (JsonNode)new JsonObject
        {
            ["name"] = run.Name,
            ["phase"] = run.Status.Phase.ToLowerInvariant(),
            ["step"] = run.Status.Step,
            ["steps"] = run.Status.Steps,
            ["checkpoint"] = run.Status.Checkpoint,
        })]) : null,
    };

    /// <summary>Names of a silo's devices, or null where it gave no answer.</summary>
    private static string? Joined(string separator, IEnumerable<string> names) =>
        names.Any() ? string.Join(separator, names) : null;

    private static JsonArray ToJson(IEnumerable<HostedModelStatus> models) =>
        new([.. models.Select(model => (JsonNode)new JsonObject
        {
            ["name"] = model.Name,
            ["experts"] = model.Experts,
            ["stages"] = model.Stages,
        })]);

    private static void Print(Terminal terminal, ClusterConnection cluster, ClusterReport report)
    {
        int active = report.Silos.Count(silo => silo.Member.State == SiloStatus.Active);
        terminal.Out.WriteLine(
            $"cluster '{cluster.Cluster}' ({cluster.Place}): {active} active silo{(active == 1 ? "" : "s")}");
        terminal.Console.Write(Silos(report));
        terminal.Out.WriteLine($"grains  {(report.Grains is { } grains ? Counts(grains) : "no answer in time")}");
        if (report.Runs is not { Count: > 0 })
        {
            terminal.Out.WriteLine($"runs    {(report.Runs is null ? "no answer in time" : "none")}");
        }

        foreach (RunReport run in report.Runs ?? [])
        {
            string checkpoint = run.Status.Checkpoint is { } folder
                ? $"checkpoint {TrainText.Relative(folder)}"
                : "no checkpoint yet";
            terminal.Out.WriteLine(
                $"run     {run.Name}: {run.Status.Phase.ToLowerInvariant()}, step {run.Status.Step} of {run.Status.Steps}, {checkpoint}");
        }
    }

    private static string Counts(IReadOnlyDictionary<string, int> grains) => grains.Count == 0
        ? "none yet"
        : string.Join(", ", grains.Select(kind => Count(kind.Value, kind.Key.Replace('_', ' '))));

    private static Table Silos(ClusterReport report)
    {
        var table = new Table { Border = TableBorder.Rounded };
        foreach (string column in new[] { "silo", "address", "state", "device", "memory", "holds" })
        {
            table.AddColumn(column == "memory" ? new TableColumn(column).RightAligned() : new TableColumn(column));
        }

        foreach (SiloReport silo in report.Silos)
        {
            DeviceStatus? first = silo.Places.Count > 0 ? silo.Places[0] : null;
            AddRow(table, silo.Member.Name, $"{silo.Member.Address.Endpoint}", StateOf(silo), first);
            foreach (DeviceStatus place in silo.Places.Skip(1))
            {
                AddRow(table, place.Silo, "", "", place);
            }
        }

        return table;
    }

    private static void AddRow(Table table, string name, string address, string state, DeviceStatus? device)
    {
        string[] cells =
        [
            name, address, state,
            device is null ? "" : $"{device.Device} ({(device.IsLost ? "lost" : device.Kernels)})",
            device is null ? "" : TrainText.Size(device.ReservedBytes), Holds(device),
        ];
        table.AddRow([.. cells.Select(Markup.Escape)]);
    }

    private static string Holds(DeviceStatus? device) =>
        device is null ? ""
        : device.Models.Length == 0 ? "nothing"
        : string.Join("; ", device.Models.Select(model =>
            $"{model.Name}: {Count(model.Experts, "expert")}, {Count(model.Stages, "stage")}"));

    private static string Count(int count, string what) => $"{count} {what}{(count == 1 ? "" : "s")}";

    private static string StateOf(SiloReport silo) =>
        silo.Member.State == SiloStatus.Active && silo.Places.Count == 0
            ? "no answer"
            : silo.Member.State.ToString().ToLowerInvariant();
}
