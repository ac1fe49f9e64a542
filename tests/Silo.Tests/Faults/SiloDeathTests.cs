using System.Globalization;
using Krewe.Grains.Interfaces;
using Krewe.Grains.Interfaces.Pipeline;
using Krewe.Grains.Interfaces.Training;
using Krewe.Model.Pipeline;
using Krewe.Silo.Tests.Hosting;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Silo.Tests.Faults;

/// <summary>
/// A run on four silo processes of which one dies or hangs in the middle of a step: it goes on, and ends with the bits
/// of a run that nothing happened to, every window of the data taken once.
/// </summary>
[Collection(ProcessClusters.Name)]
public class SiloDeathTests(TestServers servers, ITestOutputHelper output)
{
    /// <summary>Random points per fault; more with KREWE_FAULT_POINTS.</summary>
    public static TheoryData<int> Points
    {
        get
        {
            string? wanted = Environment.GetEnvironmentVariable("KREWE_FAULT_POINTS");
            int points = wanted is null ? 1 : int.Parse(wanted, CultureInfo.InvariantCulture);
            return [.. Enumerable.Range(0, points)];
        }
    }

    [Theory]
    [MemberData(nameof(Points))]
    public Task Death_of_a_silo_with_stages_and_experts(int point) =>
        FaultAsync(point, PipelineMethod.DualPipe, 4, async cluster =>
        {
            string driver = await cluster.SiloOfAsync(cluster.Run);
            cluster.Silos.Values.First(silo => silo.Name != driver).Kill();
        });

    [Theory]
    [MemberData(nameof(Points))]
    public Task Death_of_the_silo_with_the_embedding(int point) => OwnerDiesAsync(point, stage: 0);

    [Theory]
    [MemberData(nameof(Points))]
    public Task Death_of_the_silo_with_the_head(int point) => OwnerDiesAsync(point, stage: 3);

    [Theory]
    [MemberData(nameof(Points))]
    public Task Death_of_a_silo_with_experts_only(int point) =>
        FaultAsync(point, PipelineMethod.Sequential, 2, async cluster =>
        {
            // Two ranks on four silos: the second and the fourth hold experts alone.
            string driver = await cluster.SiloOfAsync(cluster.Run);
            cluster.Silos[driver == "silo-1" ? "silo-3" : "silo-1"].Kill();
        });

    [Theory]
    [MemberData(nameof(Points))]
    public Task Death_of_the_silo_with_the_run_and_the_coordinator(int point) =>
        FaultAsync(point, PipelineMethod.DualPipe, 4, async cluster =>
            cluster.Silos[await cluster.SiloOfAsync(cluster.Run)].Kill());

    [Theory]
    [MemberData(nameof(Points))]
    public Task A_silo_that_hangs_and_comes_back_after_it_was_declared_dead(int point) =>
        FaultAsync(point, PipelineMethod.DualPipe, 4, async cluster =>
        {
            string driver = await cluster.SiloOfAsync(cluster.Run);
            SiloProcess silo = cluster.Silos.Values.First(s => s.Name != driver);
            silo.Stop();
            await cluster.UntilDeadAsync(silo);
            silo.Continue();
            Assert.Equal(1, await silo.WaitForExitAsync(TimeSpan.FromSeconds(30)));
        });

    [Theory]
    [MemberData(nameof(Points))]
    public Task The_silo_with_the_run_hangs_and_comes_back(int point) =>
        FaultAsync(point, PipelineMethod.DualPipe, 4, async cluster =>
        {
            SiloProcess silo = cluster.Silos[await cluster.SiloOfAsync(cluster.Run)];
            silo.Stop();
            await cluster.UntilDeadAsync(silo);
            silo.Continue();
            Assert.Equal(1, await silo.WaitForExitAsync(TimeSpan.FromSeconds(30)));
        });

    [Theory]
    [MemberData(nameof(Points))]
    public Task Death_between_the_commit_and_the_last_update(int point) => DiesAtAsync(point, "apply");

    [Theory]
    [MemberData(nameof(Points))]
    public Task Death_while_a_checkpoint_is_written(int point) => DiesAtAsync(point, "checkpoint");

    [Theory]
    [MemberData(nameof(Points))]
    public Task Death_while_a_snapshot_is_shared(int point) => DiesAtAsync(point, "snapshot");

    /// <summary>The silo dies that both directions need for a stage's embedding or head.</summary>
    private Task OwnerDiesAsync(int point, int stage) =>
        FaultAsync(point, PipelineMethod.DualPipe, 4, async cluster =>
        {
            var owner = cluster.Grains.GetGrain<IPipelineStageGrain>(GrainKeys.Stage(cluster.RunName, stage, 0));
            cluster.Silos[await cluster.SiloOfAsync(owner)].Kill();
        }, tablesOnce: true);

    /// <summary>One of the silos kills itself at a moment of a step; snapshots come every 5 steps, checkpoints every 10.</summary>
    private Task DiesAtAsync(int point, string moment)
    {
        int every = moment == "checkpoint" ? 10 : moment == "snapshot" ? 5 : 1;
        int step = 10 + (every * (point % (20 / every)));
        return FaultAsync(point, PipelineMethod.DualPipe, 4, _ => Task.CompletedTask, $"{moment}@{step}");
    }

    private async Task FaultAsync(
        int point, PipelineMethod method, int stages, Func<TrainingCluster, Task> fault, string? moment = null,
        bool tablesOnce = false)
    {
        UndisturbedRun expected = await UndisturbedRun.OfAsync(TrainingCluster.Steps, tablesOnce);
        using var data = new TemporaryFolder();
        await using TrainingCluster cluster = await TrainingCluster.StartAsync(servers, silos: 4, moment);
        var random = new Random((point * 31) + stages);
        long step = random.NextInt64(3, TrainingCluster.Steps - 6);
        int delay = random.Next(0, 200);
        RunRequest request = TrainingCluster.Request(
            UndisturbedRun.WriteText(data), method, stages, tablesOnce: tablesOnce) with
        {
            CheckpointEvery = moment is null ? 0 : 10,
        };

        TrainingOutcome outcome = await cluster.TrainAsync(request, step, async c =>
        {
            await Task.Delay(delay);
            await fault(c);
        }, TestContext.Current.CancellationToken);

        output.WriteLine(
            $"{method.Name()}, {moment ?? $"after step {step} + {delay} ms"}: longest pause {outcome.LongestPause.TotalSeconds:F2} s; " +
            string.Join("; ", outcome.Recoveries.Select(r => $"{r.FromStep} -> {r.ToStep} in {r.Seconds:F2} s: {r.Reason}")));
        Assert.NotEmpty(outcome.Recoveries);
        expected.AssertSame(outcome, cluster.Folder);
    }
}
