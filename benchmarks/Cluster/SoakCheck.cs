using System.Text.Json.Nodes;
using Krewe.Grains.Interfaces.Training;
using Krewe.Model.Pipeline;
using Krewe.Silo.Hosting;
using Krewe.TestSupport;

namespace Krewe.Cluster;

/// <summary>Compares a run's journal with that of an undisturbed run of the same steps on one embedded silo.</summary>
internal static class SoakCheck
{
    public static async Task<bool> CompareAsync(RunRequest request, SoakProgress progress)
    {
        string[] disturbed = Lines(request.Folder);
        long[] steps = [.. disturbed.Select(line => (long)JsonNode.Parse(line)!["step"]!)];
        bool whole = steps.SequenceEqual(Enumerable.Range(0, steps.Length).Select(step => (long)step));
        bool told = disturbed.Length == progress.Losses.Count;
        using var folder = new TemporaryFolder();
        string[] undisturbed = await TrainAsync(
            request with { Folder = folder["run"], Method = PipelineMethod.Sequential, Stages = 2, SnapshotEvery = 0, Elastic = false, CheckpointEvery = 0 },
            disturbed.Length);
        int[] other = [.. Enumerable.Range(0, disturbed.Length).Where(step => disturbed[step] != undisturbed[step])];
        Console.WriteLine(
            $"  journal: {disturbed.Length} steps, {(whole ? "none missing, none twice" : "STEPS MISSING OR TWICE")}, " +
            $"{(told ? "all told to the watcher" : $"{progress.Losses.Count} told to the watcher")}; against an undisturbed run on one silo: " +
            (other.Length == 0 ? "every line is the same (loss, norm, windows)" : $"{other.Length} lines DIFFER, from step {other[0]} on"));
        return whole && other.Length == 0;
    }

    private static string[] Lines(string run) => File.ReadAllLines(Path.Combine(run, "journal.jsonl"));

    private static async Task<string[]> TrainAsync(RunRequest request, int steps)
    {
        await using EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(new() { Silos = 1 });
        ITrainingRunGrain run = cluster.Grains.GetGrain<ITrainingRunGrain>("undisturbed");
        await run.StartAsync(request with { Silos = cluster.SiloNames });
        await foreach (RunEvent happened in run.WatchAsync(CancellationToken.None))
        {
            if (happened is StepCommitted step && step.Report.Step + 1 >= steps)
            {
                await run.StopAsync();
            }
        }

        return Lines(request.Folder);
    }
}
