using System.Text.Json.Nodes;
using Krewe.Grains.Interfaces.Training;
using Krewe.Model.Configuration;
using Krewe.Model.Training;
using Krewe.Silo.Commands;
using Krewe.Silo.Commands.Train;
using Xunit;

namespace Krewe.Silo.Tests.Commands;

public class TrainCommandTests
{
    [Theory]
    [InlineData("fp32")]
    [InlineData("fp8")]
    public async Task A_run_trains_saves_samples_and_goes_on(string precision)
    {
        using var checkpoint = new SmallCheckpoint();
        string data = checkpoint["text.txt"];
        await File.WriteAllTextAsync(data, string.Concat(Enumerable.Range(0, 3000).Select(i => $"Line {i * 7919 % 1000}. ")));
        string[] args =
        [
            "train", "--config", checkpoint.Path, "--data", data, "--output", checkpoint["run"], "--steps", "4", "--batch",
            "2", "--sequence-length", "32", "--warmup", "1",
        ];

        Outcome first = await KreweProgram.RunAsync(
            [.. args, "--precision", precision, "--json", "--checkpoint-every", "2"]);
        Outcome refused = await KreweProgram.RunAsync(args);
        Directory.Delete(checkpoint["run/step-000004"], recursive: true);
        Outcome resumed = await KreweProgram.RunAsync([.. args, "--resume", "--json", "--silos", "3"]);
        Outcome anew = await KreweProgram.RunAsync(
            [.. args, "--precision", precision, "--overwrite", "--timeline", checkpoint["step.svg"]]);

        Assert.Equal((0, 2, 0, 0), (first.Code, refused.Code, resumed.Code, anew.Code));
        JsonNode[] events = [.. first.Out.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonNode.Parse(line)!)];
        // The checkpoint of step 2 is written behind the steps that follow.
        Assert.Equal(
            ["started", "evaluated", "step", "step", "step", "step", "evaluated", "finished"],
            events.Select(e => (string)e["event"]!).Where(name => name != "checkpoint"));
        Assert.Equal([2, 4], events.Where(e => (string)e["event"]! == "checkpoint").Select(e => (long)e["step"]!));
        Assert.Equal(Losses(first.Out).TakeLast(2), Losses(resumed.Out));
        Assert.Contains("--overwrite", Assert.Single(refused.ErrorLines), StringComparison.Ordinal);
        Assert.Contains("ignored: a resumed run keeps its model and recipe", resumed.Error, StringComparison.Ordinal);
        Assert.Equal(precision != "fp32", anew.Out.Contains($" in {precision}", StringComparison.Ordinal));
        Assert.Contains("held-out loss, nats per byte", anew.Out, StringComparison.Ordinal);
        Assert.Contains("sample, a new document:", anew.Out, StringComparison.Ordinal);
        Assert.DoesNotContain('\u001b', anew.Out);
        Assert.Contains(
            System.Xml.Linq.XElement.Load(checkpoint["step.svg"]).Elements(),
            text => text.Value.StartsWith("run default, step 4, sequential, 2 ranks, 1 micro-batch: ", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_run_for_measurement_writes_and_evaluates_nothing()
    {
        using var checkpoint = new SmallCheckpoint();
        string data = checkpoint["text.txt"];
        await File.WriteAllTextAsync(data, string.Concat(Enumerable.Range(0, 3000).Select(i => $"Line {i * 7919 % 1000}. ")));
        string[] args =
        [
            "train", "--config", checkpoint.Path, "--data", data, "--output", checkpoint["run"], "--steps", "2", "--batch",
            "2", "--sequence-length", "32", "--no-checkpoint", "--evaluation-windows", "0",
        ];

        Outcome run = await KreweProgram.RunAsync([.. args, "--json"]);
        Outcome shown = await KreweProgram.RunAsync(args);
        Outcome refused = await KreweProgram.RunAsync([.. args, "--checkpoint-every", "1"]);

        Assert.Equal((0, 0, 2), (run.Code, shown.Code, refused.Code));
        JsonNode[] events = [.. run.Out.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonNode.Parse(line)!)];
        Assert.Equal(["started", "step", "step", "finished"], events.Select(e => (string)e["event"]!));
        Assert.Null(events[^1]["checkpoint"]);
        Assert.Null(events[^1]["model_flop_utilization"]);
        Assert.True((double)events[^1]["median_step_seconds"]! > 0);
        Assert.Empty(Directory.GetDirectories(checkpoint["run"], "step-*"));
        Assert.DoesNotContain("held-out", shown.Out, StringComparison.Ordinal);
        Assert.Contains("--no-checkpoint", Assert.Single(refused.ErrorLines), StringComparison.Ordinal);
    }

    [Fact]
    public void Utilisation_is_the_models_operations_over_the_published_rate()
    {
        var known = new TrainDevices(PeakBytes: 1, OperationsPerToken: 5e9, BFloat16Rate: 1e15);

        Assert.Equal(0.2, known.Utilization(tokens: 4000, seconds: 0.1)!.Value, 1e-12);
        Assert.Null((known with { BFloat16Rate = 0 }).Utilization(4000, 0.1));
    }

    [Fact]
    public async Task A_view_follows_any_events()
    {
        using var output = new StringWriter();
        var view = new ConsoleTrainView(Terminal.Of(TextReader.Null, output, TextWriter.Null));
        var run = new TrainTracker(0, 50);

        await view.FollowAsync(Events(), run);
        var plan = new TrainPlan(
            "fake", "tiny", ModelPresets.Get("tiny"), new(),
            new() { ConfigJson = "", TrainingJson = "", Folder = "f", Silos = [] }, [], []);
        view.Finished(plan, run, TimeSpan.FromSeconds(70), new("Gets", " the value"));

        string text = output.ToString();
        Assert.Contains("step 25/50  loss 1.000  mtp 1.200  MaxVio 0.25  1000 tokens/s  0:25 left", text, StringComparison.Ordinal);
        Assert.Contains("held-out at step 0: 5.000 nats/token, 4.000 nats/byte", text, StringComparison.Ordinal);
        Assert.Contains("4.000 -> 2.000", text, StringComparison.Ordinal);
        Assert.Contains("checkpoint f/step-000050 (1.0 MiB)", text, StringComparison.Ordinal);
        Assert.Contains("Gets the value", text, StringComparison.Ordinal);
        Assert.Equal(0.25, run.MaxViolation);
        Assert.Equal(1000, run.MeanRate);
    }

    [Fact]
    public async Task Cancelling_stops_a_run_with_a_checkpoint()
    {
        using var checkpoint = new SmallCheckpoint();
        string data = checkpoint["text.txt"];
        await File.WriteAllTextAsync(data, string.Concat(Enumerable.Range(0, 3000).Select(i => $"Line {i * 7919 % 1000}. ")));
        using var interruption = new CancellationTokenSource();
        // A checkpoint appears by the renaming of its folder.
        Directory.CreateDirectory(checkpoint["run"]);
        var saved = new TaskCompletionSource();
        using var watcher = new FileSystemWatcher(checkpoint["run"]) { NotifyFilter = NotifyFilters.DirectoryName };
        watcher.Renamed += (_, renamed) =>
        {
            if (renamed.Name == "step-000001")
            {
                saved.TrySetResult();
            }
        };
        watcher.EnableRaisingEvents = true;
        Task<Outcome> running = KreweProgram.RunAsync(
            ["train", "--config", checkpoint.Path, "--data", data, "--output", checkpoint["run"], "--steps", "100000", "--checkpoint-every", "1"],
            cancellation: interruption.Token);
        await Task.WhenAny(running, saved.Task);

        await interruption.CancelAsync();
        Outcome outcome = await running;

        Assert.Equal(0, outcome.Code);
        Assert.Contains("stopped after step", outcome.Out, StringComparison.Ordinal);
        Assert.Contains("resume: krewe train", outcome.Out, StringComparison.Ordinal);
    }

    private static IEnumerable<double> Losses(string output) => output.Split('\n', StringSplitOptions.RemoveEmptyEntries)
        .Select(line => JsonNode.Parse(line)!).Where(e => (string)e["event"]! == "step").Select(e => (double)e["total_loss"]!);

    private static async IAsyncEnumerable<RunEvent> Events()
    {
        await Task.Yield();
        yield return new Evaluated(0, 5, 4, 5.5, 0.1, 1000);
        for (int step = 0; step < 50; step++)
        {
            var report = new StepReport(step, 1, [1.2], 1.36, 1, 0.5, 1e-3, 0.25, new Dictionary<int, long[]>(), 1000);
            yield return new StepCommitted(report, 1);
        }

        yield return new CheckpointWritten(50, "f/step-000050", 1 << 20);
        yield return new Evaluated(50, 2.5, 2, 2.6, 0.6, 1000);
        yield return new RunFinished(50, false, "f/step-000050");
    }
}
