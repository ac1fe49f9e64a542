using System.CommandLine;
using System.Text.Json.Nodes;
using Krewe.Silo.Hosting;

namespace Krewe.Silo.Commands.Cluster;

/// <summary><c>krewe drain</c>: moves everything off a silo and lets it go.</summary>
internal static class DrainCommand
{
    private const int UsualDeadlineSeconds = 120;

    /// <summary>The command.</summary>
    public static Command Create(Terminal terminal)
    {
        var silo = new Argument<string>("SILO") { Description = "Name of the silo" };
        var options = new ClusterOptions();
        Option<int> deadline = SharedOptions.AtLeast(1, new Option<int>("--deadline")
        {
            Description = "Seconds for all of it; a silo that is not empty by then stays",
            HelpName = "SECONDS",
            DefaultValueFactory = _ => UsualDeadlineSeconds,
        });
        Option<bool> json = SharedOptions.Json("The result as one JSON object");
        var command = new ToolCommand(
            "drain",
            "Moves the experts and stages of every run off a silo, at the next step boundary, then lets the silo leave its cluster; " +
            "the runs go on without it and lose no step.",
            "krewe drain b --cluster lab",
            "krewe drain b --cluster lab --membership redis --connection 127.0.0.1:6379 --json");
        command.Add(silo);
        options.AddTo(command);
        command.Add(deadline);
        command.Add(json);
        command.SetAction(async (parsed, cancellation) =>
        {
            ClusterSettings settings = options.Read(parsed);
            await using ClusterConnection cluster = await ClusterConnection.ConnectAsync(
                settings, parsed.GetValue<bool>("--verbose"), cancellation);
            var drain = new SiloDrain(cluster, parsed.GetRequiredValue(silo), TimeSpan.FromSeconds(parsed.GetValue(deadline)));
            DrainReport report = await drain.RunAsync(cancellation);
            Report(terminal, cluster, report, parsed.GetValue(json));
            return ExitCode.Fine;
        });
        return command;
    }

    private static void Report(Terminal terminal, ClusterConnection cluster, DrainReport report, bool json)
    {
        if (json)
        {
            Json.Write(terminal.Out, new JsonObject
            {
                ["silo"] = report.Silo,
                ["cluster"] = cluster.Cluster,
                ["runs"] = new JsonArray([.. report.Runs.Select(run => (JsonNode)run)]),
                ["seconds_moving"] = Json.Number(report.Moving.TotalSeconds),
                ["seconds_leaving"] = Json.Number(report.Leaving.TotalSeconds),
            });
            return;
        }

        string moved = report.Runs.Length == 0
            ? "it held nothing"
            : $"its part of {string.Join(", ", report.Runs.Select(run => $"'{run}'"))} was moved in {report.Moving.TotalSeconds:F1} s";
        terminal.Out.WriteLine(
            $"silo '{report.Silo}' has left cluster '{cluster.Cluster}' in {report.Leaving.TotalSeconds:F1} s; {moved}");
    }
}
