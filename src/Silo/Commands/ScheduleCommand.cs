using System.CommandLine;
using System.Text.Json.Nodes;
using Krewe.Model;
using Krewe.Model.Pipeline;

namespace Krewe.Silo.Commands;

/// <summary><c>krewe schedule</c>: a pipeline schedule on paper.</summary>
internal static class ScheduleCommand
{
    /// <summary>More than pipelines have, and still a second's work.</summary>
    private const int MostRanks = 128, MostMicroBatches = 1024;

    /// <summary>Keeps sums of times exact enough to print.</summary>
    private const double LongestTime = 1e9;

    /// <summary>The command.</summary>
    public static Command Create(Terminal terminal)
    {
        var options = new ScheduleOptions(MostRanks, MostMicroBatches, LongestTime);
        var command = new ToolCommand(
            "schedule",
            "Prints what each rank of a pipeline does in one step, with the simulated bubble and memory. F is a " +
            "forward, B a backward, I a backward for the input alone, W its weight gradients, F|B an overlapped pair; " +
            "then the chunk (direction, or branch of the V), a point and the micro-batch.",
            "krewe schedule --method dualpipe --ranks 8 --micro-batches 20",
            "krewe schedule --method zb1p --ranks 4 --micro-batches 8 --format gantt",
            "krewe schedule --method dualpipev --ranks 4 --micro-batches 8 --format json",
            "krewe schedule --ranks 8 --micro-batches 20 --weight 0.8 --overlapped 2.8 --svg schedule.svg");
        options.AddTo(command);
        command.SetAction(parsed =>
        {
            PipelineSchedule schedule = PipelineSchedule.Create(
                PipelineMethods.Parse(parsed.GetValue(options.Method)!), parsed.GetValue(options.Ranks),
                parsed.GetValue(options.MicroBatches));
            StageTimes times = options.TimesOf(parsed);
            ScheduleSimulation simulation = ScheduleSimulator.Run(schedule, times);
            if (parsed.GetValue(options.Svg) is { } file)
            {
                SvgFile.Write(file, GanttSvg.Draw(simulation.Timeline, Title(schedule)));
                terminal.Notice($"drawn to {file}");
            }

            Print(terminal, parsed.GetValue(options.Format)!, schedule, times, simulation);
            return ExitCode.Fine;
        });
        return command;
    }

    private static void Print(
        Terminal terminal, string format, PipelineSchedule schedule, StageTimes times, ScheduleSimulation simulation)
    {
        if (format == "json")
        {
            Json.Write(terminal.Out, ToJson(schedule, simulation));
            return;
        }

        IEnumerable<string> lines = format == "gantt"
            ? GanttText.Draw(simulation.Timeline, terminal.Console.Profile.Width)
            : schedule.Ops.Select(ops => string.Join(' ', ops));
        foreach (string line in lines)
        {
            terminal.Out.WriteLine(line);
        }

        terminal.Out.WriteLine();
        terminal.Out.WriteLine(Summary(schedule, times, simulation));
    }

    private static JsonObject ToJson(PipelineSchedule schedule, ScheduleSimulation simulation) => new()
    {
        ["method"] = schedule.Method.Name(),
        ["ranks"] = schedule.Ranks,
        ["micro_batches"] = schedule.MicroBatches,
        ["ops"] = new JsonArray([.. schedule.Ops.Select(ops =>
            (JsonNode)new JsonArray([.. ops.Select(op => (JsonNode)op.ToString())]))]),
        ["bubble"] = Rounded(simulation.Bubble),
        ["peak_live_micro_batches"] = simulation.PeakLiveMicroBatches.Max(),
    };

    private static string Title(PipelineSchedule schedule) =>
        $"{schedule.Method.Name()}, {schedule.Ranks} ranks, {schedule.MicroBatches} micro-batches";

    private static string Summary(PipelineSchedule schedule, StageTimes times, ScheduleSimulation simulation)
    {
        double least = Rounded(simulation.Bubbles.Min()), most = Rounded(simulation.Bubble);
        string bubble = least == most ? $"{most}" : $"{least} to {most}";
        double formula = Rounded(PublishedFigures.Bubble(schedule, times));
        int live = simulation.PeakLiveMicroBatches.Max(), pending = simulation.PeakPendingWeights.Max();
        return $"{Title(schedule)}: makespan {Rounded(simulation.Makespan)}, bubble per rank {bubble}, " +
            $"{simulation.BubbleShare:P1} of the time (formula {formula}), live micro-batches at most {live} (formula " +
            $"{PublishedFigures.PeakLiveMicroBatches(schedule)}), pending W at most {pending}";
    }

    /// <summary>Without the last digits, which the order of a sum decides.</summary>
    private static double Rounded(double value) => Math.Round(value, 9);
}
