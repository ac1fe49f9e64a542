using System.CommandLine;
using Krewe.Model;
using Krewe.Model.Pipeline;

namespace Krewe.Silo.Commands;

/// <summary>Options of <c>krewe schedule</c>.</summary>
/// <param name="mostRanks">Largest number of ranks.</param>
/// <param name="mostMicroBatches">Largest number of micro-batches.</param>
/// <param name="longestTime">Largest time of an operation.</param>
internal sealed class ScheduleOptions(int mostRanks, int mostMicroBatches, double longestTime)
{
    private static readonly StageTimes _usual = new();

    /// <summary>Name of the method.</summary>
    public Option<string> Method { get; } = new("--method")
    {
        Description = $"Schedule: {string.Join(", ", PipelineMethods.Names)}",
        HelpName = "NAME",
        DefaultValueFactory = _ => PipelineMethod.DualPipe.Name(),
    };

    /// <summary>Ranks P.</summary>
    public Option<int> Ranks { get; } = SharedOptions.Within(1, mostRanks, new("--ranks")
    {
        Description = "Ranks of the pipeline, even for dualpipe",
        HelpName = "N",
        DefaultValueFactory = _ => 8,
    });

    /// <summary>Micro-batches M.</summary>
    public Option<int> MicroBatches { get; } = SharedOptions.Within(1, mostMicroBatches, new("--micro-batches")
    {
        Description = "Micro-batches of a step, over both directions; dualpipe and dualpipev need two per rank",
        HelpName = "N",
        DefaultValueFactory = _ => 20,
    });

    /// <summary>What is printed.</summary>
    public Option<string> Format { get; } = FormatOption();

    /// <summary>File of the drawing.</summary>
    public Option<string?> Svg { get; } = new("--svg")
    {
        Description = "Also draw a Gantt chart into this file",
        HelpName = "FILE",
    };

    /// <summary>Time of F.</summary>
    public Option<double> Forward { get; } = Time("--forward", "Time of a forward", _usual.F, longestTime);

    /// <summary>Time of B.</summary>
    public Option<double> Backward { get; } = Time("--backward", "Time of a whole backward", _usual.B, longestTime);

    /// <summary>Time of W.</summary>
    public Option<double> Weight { get; } = Time(
        "--weight", "Part of --backward that goes to weight gradients", _usual.W, longestTime);

    /// <summary>Time of a pair.</summary>
    public Option<double> Overlapped { get; } = Time(
        "--overlapped", "Time of an overlapped pair (default: --forward and --backward together)", null, longestTime);

    /// <summary>Adds all options.</summary>
    public void AddTo(Command command)
    {
        foreach (Option option in
            (Option[])[Method, Ranks, MicroBatches, Format, Svg, Forward, Backward, Weight, Overlapped])
        {
            command.Options.Add(option);
        }
    }

    /// <summary>The times that a command line asks for.</summary>
    /// <exception cref="KreweException">The weight gradients take longer than their backward.</exception>
    public StageTimes TimesOf(ParseResult parsed)
    {
        double forward = parsed.GetValue(Forward);
        double backward = parsed.GetValue(Backward), weight = parsed.GetValue(Weight);
        if (weight > backward)
        {
            throw new KreweException(
                $"--weight {weight} is more than --backward {backward}, of which it is a part: lower it");
        }

        double overlapped = parsed.GetResult(Overlapped) is null ? forward + backward : parsed.GetValue(Overlapped);
        return new(forward, backward, backward - weight, weight, overlapped);
    }

    private static Option<string> FormatOption()
    {
        var option = new Option<string>("--format")
        {
            Description = "One line of operations per rank, one JSON object, or a chart in text",
            DefaultValueFactory = _ => "ops",
        };
        return option.AcceptOnlyFromAmong("ops", "json", "gantt");
    }

    private static Option<double> Time(string name, string description, double? usual, double longest)
    {
        var option = new Option<double>(name) { Description = description, HelpName = "TIME" };
        if (usual is { } value)
        {
            option.DefaultValueFactory = _ => value;
        }

        return SharedOptions.Within(0, longest, option);
    }
}
