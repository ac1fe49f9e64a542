using Krewe.Grains.Interfaces.Training;
using Krewe.Model;
using Krewe.Model.Checkpoints;
using Krewe.Model.Configuration;
using Krewe.Silo.Hosting;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Grains.Tests.Training;

/// <summary>A run through its grain: progress, checkpoints, stopping, and going on bit for bit.</summary>
public class TrainingRunTests
{
    private static readonly TrainingConfig Recipe = new()
    {
        Steps = 8,
        WarmupSteps = 2,
        BatchSize = 4,
        MicroBatches = 2,
        SequenceLength = 32,
        BiasUpdateSpeed = 1e-2,
    };

    [Fact]
    public async Task A_resumed_run_ends_with_the_bits_of_an_undisturbed_one()
    {
        using var folder = new TemporaryFolder();
        string data = folder["text.txt"];
        await File.WriteAllTextAsync(data, string.Concat(Enumerable.Range(0, 4000).Select(i => $"Line {i * 7919 % 1000}. ")));
        await using EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(new(), TestContext.Current.CancellationToken);

        List<RunEvent> whole = await RunAsync(cluster, "whole", Request(cluster, folder["whole"], data));
        RunRequest cut = Request(cluster, folder["cut"], data) with { CheckpointEvery = 3, KeepCheckpoints = 9 };
        await RunAsync(cluster, "cut", cut);
        // Lose everything after step 3, then go on.
        foreach (long step in RunFolder.Steps(folder["cut"]).Where(step => step > 3))
        {
            Directory.Delete(RunFolder.CheckpointOf(folder["cut"], step), recursive: true);
        }

        // On another cluster of another size and with memory of its own, as after a restart.
        await using EmbeddedCluster second = await EmbeddedCluster.StartAsync(
            new() { Silos = 3, Device = device => new SeparateMemoryDevice(device) }, TestContext.Current.CancellationToken);
        List<RunEvent> rest = await RunAsync(second, "cut", cut with { Resume = true, Silos = second.SiloNames });

        double[] expected = [.. whole.OfType<StepCommitted>().Where(e => e.Report.Step >= 3).Select(e => e.Report.TotalLoss)];
        Assert.Equal(expected, rest.OfType<StepCommitted>().Select(e => e.Report.TotalLoss));
        foreach (string file in new[] { "model.safetensors", "config.json", "training/optimizer.safetensors" })
        {
            byte[] a = await File.ReadAllBytesAsync(Path.Combine(RunFolder.CheckpointOf(folder["whole"], 8), file));
            byte[] b = await File.ReadAllBytesAsync(Path.Combine(RunFolder.CheckpointOf(folder["cut"], 8), file));
            Assert.True(a.AsSpan().SequenceEqual(b), $"{file} differs");
        }

        RunFinished finished = Assert.IsType<RunFinished>(rest[^1]);
        Assert.Equal(8, finished.Step);
        using CheckpointReader reader = CheckpointReader.Open(finished.Checkpoint!);
        reader.CheckUp(reader.Config);
    }

    [Fact]
    public async Task A_stopped_run_saves_the_step_that_it_reached()
    {
        using var folder = new TemporaryFolder();
        string data = folder["text.txt"];
        await File.WriteAllTextAsync(data, new string('x', 20_000));
        await using EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(new(), TestContext.Current.CancellationToken);
        ITrainingRunGrain run = cluster.Grains.GetGrain<ITrainingRunGrain>("stopped");
        await run.StartAsync(Request(cluster, folder["stopped"], data) with
        {
            TrainingJson = (Recipe with { Steps = 100_000 }).ToJson(),
        });
        RunFinished? finished = null;
        await foreach (RunEvent happened in run.WatchAsync(TestContext.Current.CancellationToken))
        {
            if (happened is StepCommitted { Report.Step: 2 })
            {
                await run.StopAsync();
            }

            finished = happened as RunFinished ?? finished;
        }

        Assert.NotNull(finished);
        Assert.True(finished.Stopped);
        Assert.InRange(finished.Step, 3, 50);
        Assert.Equal([finished.Step], RunFolder.Steps(folder["stopped"]));
    }

    [Fact]
    public async Task Bad_requests_are_refused_in_one_line()
    {
        using var folder = new TemporaryFolder();
        await File.WriteAllTextAsync(folder["empty.txt"], "");
        await using EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(new(), TestContext.Current.CancellationToken);
        RunRequest good = Request(cluster, folder["run"], folder["empty.txt"]);
        await RefusedAsync(good, "empty.txt");
        await RefusedAsync(good with { Data = folder["absent"] }, "absent");
        await RefusedAsync(good with { TrainingJson = (Recipe with { MicroBatches = 3 }).ToJson() }, "micro-batches");
        ModelConfig tiny = ModelPresets.Get("tiny");
        await RefusedAsync(good with { ConfigJson = (tiny with { TopkGroup = 9 }).ToJson() }, "topk_group");
        await RefusedAsync(good with { ConfigJson = (tiny with { VocabSize = 100 }).ToJson() }, "vocab");
        Assert.False(Directory.Exists(folder["run"]));

        async Task RefusedAsync(RunRequest request, string mentioned)
        {
            ITrainingRunGrain run = cluster.Grains.GetGrain<ITrainingRunGrain>("refused");
            KreweException refused = await Assert.ThrowsAsync<KreweException>(() => run.StartAsync(request));
            Assert.Contains(mentioned, refused.Message, StringComparison.OrdinalIgnoreCase);
            Assert.DoesNotContain('\n', refused.Message);
        }
    }

    private static RunRequest Request(EmbeddedCluster cluster, string folder, string data) => new()
    {
        ConfigJson = ModelPresets.Get("tiny").ToJson(),
        TrainingJson = Recipe.ToJson(),
        Folder = folder,
        Data = data,
        Silos = cluster.SiloNames,
        HeldOutFraction = 0.1,
    };

    private static async Task<List<RunEvent>> RunAsync(EmbeddedCluster cluster, string name, RunRequest request)
    {
        ITrainingRunGrain run = cluster.Grains.GetGrain<ITrainingRunGrain>(name);
        await run.StartAsync(request);
        var events = new List<RunEvent>();
        await foreach (RunEvent happened in run.WatchAsync(TestContext.Current.CancellationToken))
        {
            events.Add(happened);
        }

        Assert.IsNotType<RunFailed>(events[^1]);
        return events;
    }
}
