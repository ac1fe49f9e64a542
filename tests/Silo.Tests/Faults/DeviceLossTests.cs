using System.Diagnostics;
using Krewe.Gpu.Compilation;
using Krewe.Gpu.Driver;
using Krewe.Grains.Interfaces.Devices;
using Krewe.Grains.Interfaces.Training;
using Krewe.Model.Pipeline;
using Krewe.Silo.Hosting;
using Krewe.Silo.Tests.Hosting;
using Krewe.TestSupport;
using Orleans.Runtime;
using Xunit;

namespace Krewe.Silo.Tests.Faults;

/// <summary>
/// A run one of whose silos loses its device in the middle of a step: it goes on with the others, and ends with the
/// bits of a run that nothing happened to. Silos of one process, which are retired, and processes, which end.
/// </summary>
[Collection(ProcessClusters.Name)]
public class DeviceLossTests(TestServers servers, ITestOutputHelper output)
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(LosingMoment.Forward, 1)]
    [InlineData(LosingMoment.BackwardWeight, 3)]
    [InlineData(LosingMoment.Apply, 2)]
    [InlineData(LosingMoment.ToHost, 1)]
    public async Task An_embedded_run_goes_on_without_the_silo(LosingMoment moment, int silo)
    {
        (List<RunEvent> events, TrainingOutcome outcome) = await EmbeddedAsync(4, moment, _ => silo);

        RunRecovered recovery = Assert.Single(outcome.Recoveries);
        Assert.DoesNotContain($"silo-{silo}", recovery.Silos);
        Assert.Equal(3, recovery.Silos.Length);
        // From the snapshot in the others' memory, not from the start.
        Assert.InRange(recovery.ToStep, EmbeddedRun.After - 7, EmbeddedRun.After + 10);
        Assert.IsType<RunFinished>(events[^1]);
    }

    [Fact]
    public async Task An_embedded_run_goes_on_where_its_own_silo_loses_its_device()
    {
        (_, TrainingOutcome outcome) = await EmbeddedAsync(3, LosingMoment.Forward, driver => driver);
        Assert.Equal(2, Assert.Single(outcome.Recoveries).Silos.Length);
    }

    [Fact]
    public async Task A_run_whose_only_silo_loses_its_device_ends_with_one_line()
    {
        (List<RunEvent> events, _) = await EmbeddedAsync(1, LosingMoment.Forward, _ => 0, finishes: false);

        RunFailed failed = Assert.IsType<RunFailed>(events[^1]);
        output.WriteLine(failed.Message);
        Assert.False(failed.IsUserFault);
        Assert.StartsWith(
            "run 'run' has lost its last device, cpu:0: Synchronize gave TEST_LOST", failed.Message,
            StringComparison.Ordinal);
        Assert.Contains("step-000010", failed.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', failed.Message);
    }

    [Theory]
    [InlineData("forward", 12)]
    [InlineData("apply", 13)]
    [InlineData("checkpoint", 10)]
    [InlineData("snapshot", 15)]
    public async Task A_silo_process_ends_with_one_line_and_the_run_goes_on(string moment, int step)
    {
        UndisturbedRun expected = await UndisturbedRun.OfAsync(TrainingCluster.Steps);
        using var data = new TemporaryFolder();
        await using TrainingCluster cluster = await TrainingCluster.StartAsync(
            servers, silos: 4, $"lose:{moment}@{step}");
        RunRequest request = TrainingCluster.Request(UndisturbedRun.WriteText(data)) with { CheckpointEvery = 10 };
        SiloProcess lost = cluster.Faulty!;

        TrainingOutcome outcome = await cluster.TrainAsync(
            request, long.MaxValue, _ => Task.CompletedTask, Cancellation);

        output.WriteLine($"{moment}: longest pause {outcome.LongestPause.TotalSeconds:F2} s");
        Tell(outcome);
        Assert.Equal(1, await lost.WaitForExitAsync(Patience));
        string line = Assert.Single(lost.Errors, error => error.StartsWith("krewe:", StringComparison.Ordinal));
        output.WriteLine(line);
        Assert.StartsWith($"krewe: silo '{lost.Name}' of cluster", line, StringComparison.Ordinal);
        Assert.Contains("device cpu:0 is lost", line, StringComparison.Ordinal);
        Assert.Contains("start it again to join anew", line, StringComparison.Ordinal);
        Assert.NotEmpty(outcome.Recoveries);
        Assert.DoesNotContain(lost.Name, outcome.Recoveries[^1].Silos);
        expected.AssertSame(outcome, cluster.Folder);
    }

    /// <summary>Out of memory, a kernel that does not compile: the run's fault, told in full.</summary>
    [Theory]
    [InlineData("memory", true), InlineData("memory", false), InlineData("kernel", true)]
    public async Task A_refusal_ends_the_run_and_not_the_silo(string kind, bool inBand)
    {
        Exception refusal = kind == "memory"
            ? new CudaException(
                "cuMemAllocFromPoolAsync", 2, "CUDA_ERROR_OUT_OF_MEMORY",
                "'cuda:0/run: experts' asked for 1,024 bytes on cuda:0, which has 7 of 9 free")
            : new KernelCompilationException(
                new("Rows.cu", "int x = y;", new Dictionary<string, string>(), []), "sm_90a",
                "Rows.cu(1): error: identifier \"y\" is undefined");
        using var folder = new TemporaryFolder();
        var devices = new List<LosingDevice>();
        await using EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(
            new()
            {
                Silos = 2,
                InBand = inBand,
                Device = device =>
                {
                    devices.Add(new(device));
                    return devices[^1];
                },
            },
            Cancellation);
        devices[1].RefuseAt(LosingMoment.BackwardWeight, refusal);
        RunRequest request = TrainingCluster.Request(UndisturbedRun.WriteText(folder), steps: 6) with
        {
            Folder = folder["run"],
            Silos = cluster.SiloNames,
        };

        List<RunEvent> events = await TrainAsync(cluster, request);
        RunFailed failed = events[^1] as RunFailed ?? throw new InvalidOperationException(string.Join("; ", events));
        Assert.Equal(refusal.Message, failed.Message);
        Assert.Contains(
            kind == "memory" ? "asked for 1,024 bytes" : "is undefined:\nRows.cu(1): error: identifier \"y\" is undefined\n     1 | int x = y;",
            failed.Message, StringComparison.Ordinal);
        Assert.True(failed.IsUserFault);
        Assert.All(devices, device => Assert.False(device.Loss.IsLost));

        Assert.IsType<RunFinished>((await TrainAsync(cluster, request))[^1]);
    }

    private static async Task<List<RunEvent>> TrainAsync(EmbeddedCluster cluster, RunRequest request)
    {
        ITrainingRunGrain run = cluster.Grains.GetGrain<ITrainingRunGrain>("run");
        await run.StartAsync(request);
        var events = new List<RunEvent>();
        await foreach (RunEvent happened in run.WatchAsync(Cancellation))
        {
            events.Add(happened);
        }

        return events;
    }

    /// <summary>Trains on silos of this process, of which one loses its device at a moment after a step.</summary>
    /// <param name="silos">How many.</param>
    /// <param name="moment">What the device is doing.</param>
    /// <param name="choose">Which silo, where the run's own is known.</param>
    /// <param name="finishes">The run goes on, with the bits of an undisturbed one.</param>
    private async Task<(List<RunEvent> Events, TrainingOutcome Outcome)> EmbeddedAsync(
        int silos, LosingMoment moment, Func<int, int> choose, bool finishes = true)
    {
        UndisturbedRun expected = await UndisturbedRun.OfAsync(TrainingCluster.Steps);
        await using EmbeddedRun run = await EmbeddedRun.StartAsync(silos);
        int lost = 0;
        long losing = Stopwatch.GetTimestamp();
        TrainingOutcome outcome = await run.TrainAsync(
            async () =>
            {
                lost = choose(await DriverAsync(run.Cluster, run.Run));
                run.Devices[lost].LoseAt(moment);
                losing = Stopwatch.GetTimestamp();
            },
            checkpointEvery: 10);
        TimeSpan ended = Stopwatch.GetElapsedTime(losing);
        Tell(outcome);
        Assert.True(run.Devices[lost].Loss.IsLost);
        DeviceStatus status = await run.Cluster.Grains.GetGrain<IDeviceGrain>($"silo-{lost}").StatusAsync();
        Assert.Equal((0, 0), (status.Experts, status.Stages));
        if (finishes)
        {
            expected.AssertSame(outcome, run.Folder);
        }
        else
        {
            Assert.InRange(ended, TimeSpan.Zero, Patience);
        }

        return (outcome.Events, outcome);
    }

    private void Tell(TrainingOutcome outcome)
    {
        foreach (RunRecovered r in outcome.Recoveries)
        {
            output.WriteLine(
                $"{r.FromStep} -> {r.ToStep} in {r.Seconds:F2} s on {string.Join(", ", r.Silos)}: {r.Reason}");
        }
    }

    private static async Task<int> DriverAsync(EmbeddedCluster cluster, IAddressable run)
    {
        IManagementGrain management = cluster.Grains.GetGrain<IManagementGrain>(0);
        SiloAddress? address = await management.GetActivationAddress(run);
        MembershipEntry[] members = await management.GetDetailedHosts(onlyActive: true);
        return int.Parse(members.Single(member => member.SiloAddress.Equals(address)).SiloName["silo-".Length..]);
    }
}
