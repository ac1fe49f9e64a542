using System.Collections.Concurrent;
using Krewe.Grains.Interfaces.Training;
using Krewe.Model.Pipeline;
using Krewe.Silo.Hosting;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Silo.Tests.Faults;

/// <summary>
/// The run of <see cref="TrainingCluster"/> on one silo, one micro-batch after the other: every schedule and every number
/// of silos gives these bits.
/// </summary>
internal sealed record UndisturbedRun(
    int Steps, string Digest, (long Step, long Window)[] Journal, Dictionary<long, double> Losses)
{
    private const string Text = "The quick brown fox jumps over the lazy dog. ";

    private static readonly ConcurrentDictionary<(int, bool), Lazy<Task<UndisturbedRun>>> Runs = [];

    public static Task<UndisturbedRun> OfAsync(int steps, bool tablesOnce = false) =>
        Runs.GetOrAdd((steps, tablesOnce), _ => new(() => TrainAsync(steps, tablesOnce))).Value;

    public static string WriteText(TemporaryFolder folder)
    {
        string path = folder["text.txt"];
        File.WriteAllText(path, string.Concat(Enumerable.Range(0, 3000).Select(i => $"{i * 7919 % 10007} {Text}")));
        return path;
    }

    /// <summary>The other run ended, and in the same way.</summary>
    public void AssertSame(TrainingOutcome outcome, string folder)
    {
        Assert.True(outcome.Finished is not null, $"the run ended with {outcome.Events[^1]}");
        Assert.Equal(Steps, outcome.Finished.Step);
        Assert.Equal(outcome.Losses.Where(loss => Losses[loss.Key] != loss.Value).Select(loss => loss.Key), []);
        Assert.Equal(Digest, TrainingCluster.DigestOf(folder, Steps));
        Assert.Equal(Journal, TrainingCluster.Journal(folder));
    }

    private static async Task<UndisturbedRun> TrainAsync(int steps, bool tablesOnce)
    {
        using var folder = new TemporaryFolder();
        await using EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(new() { Silos = 1 });
        RunRequest request = TrainingCluster.Request(
            WriteText(folder), PipelineMethod.Sequential, stages: 2, steps, tablesOnce) with
        {
            Folder = folder["run"],
            Silos = cluster.SiloNames,
            SnapshotEvery = 0,
            Elastic = false,
        };
        ITrainingRunGrain run = cluster.Grains.GetGrain<ITrainingRunGrain>("reference");
        await run.StartAsync(request);
        var losses = new Dictionary<long, double>();
        await foreach (RunEvent happened in run.WatchAsync(CancellationToken.None))
        {
            if (happened is StepCommitted step)
            {
                losses.Add(step.Report.Step, step.Report.TotalLoss);
            }
        }

        return new(steps, TrainingCluster.DigestOf(folder["run"], steps), TrainingCluster.Journal(folder["run"]), losses);
    }
}
