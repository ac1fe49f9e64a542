using System.Diagnostics;
using Krewe.Grains.Interfaces.Devices;
using Krewe.Grains.Interfaces.Training;
using Krewe.Model.Pipeline;
using Krewe.Silo.Tests.Commands;
using Krewe.Silo.Tests.Hosting;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Silo.Tests.Faults;

/// <summary>
/// A run on silo processes that come and go as they were told to: it ends with the bits of a run that nothing happened
/// to, every window of the data taken once.
/// </summary>
[Collection(ProcessClusters.Name)]
public class ElasticTests(TestServers servers, ITestOutputHelper output)
{
    /// <summary>Enough that a silo can start meanwhile.</summary>
    private const int Steps = 120;

    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    [Fact]
    public async Task A_silo_that_joins_gets_its_share()
    {
        HostedModelStatus[] held = [];
        string run = "";
        TrainingOutcome outcome = await ChangeAsync(silos: 3, after: 3, async cluster =>
        {
            string added = await cluster.AddAsync();
            run = cluster.RunName;
            long start = Stopwatch.GetTimestamp();
            while (held.Length == 0 && Stopwatch.GetElapsedTime(start) < Patience)
            {
                held = [.. (await cluster.Grains.GetGrain<IDeviceGrain>(added).StatusAsync()).Models.Where(m => m.Experts > 0)];
            }
        });

        Assert.Equal(run, Assert.Single(held).Name);
        Assert.Equal(["silo-0", "silo-1", "silo-2", "silo-3"], Assert.Single(outcome.Moves).Silos);
        Assert.Empty(outcome.Recoveries);
    }

    [Fact]
    public async Task A_drained_silo_leaves_and_the_run_goes_on()
    {
        TrainingOutcome outcome = await ChangeAsync(silos: 3, after: 20, async cluster =>
        {
            string driver = await cluster.SiloOfAsync(cluster.Run);
            await DrainAsync(cluster, cluster.Silos.Keys.First(silo => silo != driver));
        });

        Assert.Equal(2, Assert.Single(outcome.Moves).Silos.Length);
        Assert.Empty(outcome.Recoveries);
    }

    [Fact]
    public async Task Draining_the_silo_with_the_run_and_the_coordinator_loses_no_step()
    {
        TrainingOutcome outcome = await ChangeAsync(silos: 3, after: 20, async cluster =>
            await DrainAsync(cluster, await cluster.SiloOfAsync(cluster.Run)));

        RunRecovered recovery = Assert.Single(outcome.Recoveries);
        Assert.Equal(recovery.FromStep, recovery.ToStep);
    }

    [Theory, InlineData(true), InlineData(false)]
    public async Task A_silo_that_is_told_to_end_leaves_within_seconds(bool withTheRun)
    {
        TimeSpan left = default;
        TrainingOutcome outcome = await ChangeAsync(silos: 4, after: 20, async cluster =>
        {
            string driver = await cluster.SiloOfAsync(cluster.Run);
            SiloProcess silo = cluster.Silos.Values.First(s => s.Name == driver == withTheRun);
            long start = Stopwatch.GetTimestamp();
            silo.Terminate();
            Assert.Equal(0, await silo.WaitForExitAsync(Patience));
            left = Stopwatch.GetElapsedTime(start);
        });

        output.WriteLine($"it left in {left.TotalSeconds:F2} s");
        Assert.Equal(3, outcome.Recoveries[^1].Silos.Length);
    }

    [Theory, InlineData(PipelineMethod.DualPipe, 4), InlineData(PipelineMethod.OneForwardOneBackward, 3)]
    public async Task A_stopped_run_goes_on_with_fewer_silos_and_another_schedule(PipelineMethod method, int stages)
    {
        UndisturbedRun expected = await UndisturbedRun.OfAsync(TrainingCluster.Steps);
        using var data = new TemporaryFolder();
        await using TrainingCluster cluster = await TrainingCluster.StartAsync(servers, silos: 4);
        RunRequest request = TrainingCluster.Request(UndisturbedRun.WriteText(data), PipelineMethod.DualPipe, stages: 4);
        CancellationToken cancellation = TestContext.Current.CancellationToken;

        TrainingOutcome half = await cluster.TrainAsync(request, TrainingCluster.Steps / 2, c => c.Run.StopAsync(), cancellation);
        RunFinished stopped = Assert.IsType<RunFinished>(half.Events[^1]);
        Assert.True(stopped.Stopped);
        await DrainAsync(cluster, "silo-1");
        await cluster.ReconnectAsync();
        TrainingOutcome rest = await cluster.TrainAsync(
            request with { Method = method, Stages = stages, Resume = true }, long.MaxValue, _ => Task.CompletedTask, cancellation);

        Assert.Equal(stopped.Step, rest.Losses.Keys.Min());
        expected.AssertSame(rest, cluster.Folder);
    }

    [Fact]
    public async Task A_silo_that_cannot_be_drained_says_why()
    {
        await using TrainingCluster cluster = await TrainingCluster.StartAsync(servers, silos: 1, devices: "cpu,cpu");
        string only = Assert.Single(cluster.Silos.Keys);
        await RefusesAsync(cluster, $"has no active silo 'silo-7', only '{only}'", "drain", "silo-7");
        await RefusesAsync(cluster, $"'{only}' is the only one", "drain", only);
    }

    private async Task<TrainingOutcome> ChangeAsync(int silos, long after, Func<TrainingCluster, Task> change)
    {
        UndisturbedRun expected = await UndisturbedRun.OfAsync(Steps);
        using var data = new TemporaryFolder();
        await using TrainingCluster cluster = await TrainingCluster.StartAsync(servers, silos);
        RunRequest request = TrainingCluster.Request(UndisturbedRun.WriteText(data), PipelineMethod.DualPipe, stages: 4, Steps);
        TrainingOutcome outcome = await cluster.TrainAsync(request, after, change, TestContext.Current.CancellationToken);
        output.WriteLine(
            $"longest pause {outcome.LongestPause.TotalSeconds:F2} s; " +
            string.Join("; ", outcome.Moves.Select(m => $"moved at {m.Step} in {m.Seconds:F2} s")
                .Concat(outcome.Recoveries.Select(r => $"{r.FromStep} -> {r.ToStep} in {r.Seconds:F2} s: {r.Reason}"))));
        expected.AssertSame(outcome, cluster.Folder);
        return outcome;
    }

    /// <summary>By the command, which ends when the silo has left.</summary>
    private async Task DrainAsync(TrainingCluster cluster, string silo)
    {
        Outcome outcome = await cluster.ExecuteAsync("drain", silo);
        Assert.Equal(("", 0), (outcome.Error, outcome.Code));
        output.WriteLine(outcome.Out.Trim());
        Assert.Equal(0, await cluster.Silos[silo].WaitForExitAsync(Patience));
        Assert.DoesNotContain(cluster.Silos[silo].Errors, line => line.StartsWith("krewe:", StringComparison.Ordinal));
        await cluster.Silos[silo].DisposeAsync();
        cluster.Silos.Remove(silo);
    }

    private static async Task RefusesAsync(TrainingCluster cluster, string says, params string[] args)
    {
        Outcome outcome = await cluster.ExecuteAsync(args);
        Assert.Equal(2, outcome.Code);
        Assert.Contains(says, Assert.Single(outcome.ErrorLines), StringComparison.Ordinal);
    }
}
