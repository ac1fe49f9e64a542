using System.Text.Json.Nodes;
using System.Xml.Linq;
using Krewe.Model.Pipeline;
using Krewe.Silo.Commands;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Silo.Tests.Commands;

/// <summary>The printed schedule in its three forms, the drawing, and bad input.</summary>
public class ScheduleCommandTests
{
    [Theory]
    [InlineData("dualpipe", 2, 4)]
    [InlineData("dualpipe", 8, 16)]
    [InlineData("dualpipev", 4, 8)]
    public async Task Both_forms_hold_the_lists_of_the_reference(string method, int ranks, int microBatches)
    {
        JsonNode golden = JsonNode.Parse(File.ReadAllText(Path.Combine(TestData.GoldenFolder, "schedules.json")))!;
        JsonNode expected = golden[method]![$"P{ranks}_M{microBatches}"]!;
        string[] args = ["schedule", "--method", method, "--ranks", $"{ranks}", "--micro-batches", $"{microBatches}"];

        Outcome json = await KreweProgram.RunAsync([.. args, "--format", "json"]);
        Outcome ops = await KreweProgram.RunAsync(args);

        JsonObject node = JsonNode.Parse(json.Out)!.AsObject();
        Assert.Equal(
            ["method", "ranks", "micro_batches", "ops", "bubble", "peak_live_micro_batches"],
            node.Select(pair => pair.Key));
        Assert.Equal((method, ranks, microBatches), ((string)node["method"]!, (int)node["ranks"]!, (int)node["micro_batches"]!));
        Assert.True(JsonNode.DeepEquals(expected, node["ops"]));
        string[] lines = ops.Out.Split('\n');
        Assert.Equal(
            expected.AsArray().Select(rank => string.Join(' ', rank!.AsArray().Select(op => (string)op!))), lines[..ranks]);
        Assert.Equal((0, 0), (json.Code, ops.Code));
    }

    [Theory]
    [InlineData("dualpipe", 8, 6, 9)]
    [InlineData("dualpipev", 8, 14, 17)]
    [InlineData("1f1b", 4, 9, 4)]
    [InlineData("zb1p", 4, 3, 4)]
    [InlineData("sequential", 2, 60, 1)]
    public async Task Bubble_and_memory_are_the_published_ones(string method, int ranks, double bubble, int live)
    {
        string[] args = ["schedule", "--method", method, "--ranks", $"{ranks}"];

        Outcome json = await KreweProgram.RunAsync([.. args, "--format", "json"]);
        Outcome ops = await KreweProgram.RunAsync(args);

        JsonNode node = JsonNode.Parse(json.Out)!;
        Assert.Equal((bubble, live), ((double)node["bubble"]!, (int)node["peak_live_micro_batches"]!));
        string summary = ops.Out.TrimEnd().Split('\n')[^1];
        Assert.Contains($"bubble per rank {bubble}, ", summary, StringComparison.Ordinal);
        Assert.Contains($"(formula {bubble})", summary, StringComparison.Ordinal);
        Assert.Contains($"live micro-batches at most {live} (formula {live})", summary, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Times_count()
    {
        Outcome outcome = await KreweProgram.RunAsync(
            ["schedule", "--backward", "2.2", "--weight", "0.8", "--overlapped", "2.8"]);

        Assert.Contains(
            "makespan 66.4, bubble per rank 6 to 6.8, 9.8 % of the time (formula 7.8)", outcome.Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_chart_in_text_has_a_line_per_rank()
    {
        Outcome outcome = await KreweProgram.RunAsync(
            ["schedule", "--ranks", "2", "--micro-batches", "4", "--format", "gantt"]);

        string[] lines = outcome.Out.Split('\n');
        Assert.StartsWith("rank 0 F0", lines[0], StringComparison.Ordinal);
        Assert.StartsWith("rank 1 f0", lines[1], StringComparison.Ordinal);
        Assert.Contains("f1B0", lines[0], StringComparison.Ordinal);
        Assert.Contains("makespan", lines[^2], StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(40)]
    [InlineData(80)]
    [InlineData(200)]
    public void The_chart_in_text_fits(int width)
    {
        foreach ((int ranks, int microBatches) in new[] { (2, 4), (8, 20), (16, 200) })
        {
            ScheduleTimeline timeline =
                ScheduleSimulator.Run(PipelineSchedule.Create(PipelineMethod.DualPipe, ranks, microBatches)).Timeline;
            Assert.All(GanttText.Draw(timeline, width).Take(ranks), line => Assert.InRange(line.Length, 20, width));
        }
    }

    [Fact]
    public async Task The_drawing_goes_to_a_file()
    {
        using var folder = new TemporaryFolder();
        string file = Path.Combine(folder.Path, "schedule.svg");

        Outcome outcome = await KreweProgram.RunAsync(["schedule", "--format", "json", "--svg", file]);

        Assert.Equal(0, outcome.Code);
        Assert.Contains(XElement.Load(file).Elements(), text => text.Value == "dualpipe, 8 ranks, 20 micro-batches");
        _ = JsonNode.Parse(outcome.Out);
    }

    [Fact]
    public async Task The_picture_in_the_docs_is_the_commands()
    {
        using var folder = new TemporaryFolder();
        string file = Path.Combine(folder.Path, "schedule.svg");
        await KreweProgram.RunAsync(["schedule", "--svg", file]);

        string shown = Path.Combine(TestData.RepositoryRoot(), "docs", "images", "dualpipe.svg");
        Assert.Equal(await File.ReadAllTextAsync(file), await File.ReadAllTextAsync(shown));
    }

    [Theory]
    [InlineData("dualpipe needs an even number of ranks, not 7", "--ranks", "7")]
    [InlineData("needs an even number of micro-batches", "--micro-batches", "21")]
    [InlineData("needs at least 16 micro-batches", "--micro-batches", "8")]
    [InlineData("--ranks must be at least 1, not 0", "--ranks", "0")]
    [InlineData("--ranks must be at most", "--ranks", "100000")]
    [InlineData("no pipeline method 'gpipe'; known: sequential, 1f1b", "--method", "gpipe")]
    [InlineData("'xml' not recognized", "--format", "xml")]
    [InlineData("--forward must be at least 0", "--forward", "-1")]
    [InlineData("--weight 3 is more than --backward 2", "--weight", "3")]
    [InlineData("cannot be written", "--svg", "no-such-folder/schedule.svg")]
    public async Task Bad_input_is_one_line(string says, params string[] args)
    {
        Outcome outcome = await KreweProgram.RunAsync(["schedule", .. args]);

        Assert.Equal(2, outcome.Code);
        Assert.Contains(says, Assert.Single(outcome.ErrorLines), StringComparison.Ordinal);
        Assert.Empty(outcome.Out);
    }
}
