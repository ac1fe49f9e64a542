using System.Text.Json.Nodes;
using Krewe.Grains.Interfaces;
using Krewe.Grains.Interfaces.Devices;
using Krewe.Grains.Interfaces.Experts;
using Krewe.Grains.Interfaces.Training;
using Krewe.Silo.Hosting;
using Krewe.Silo.Tests.Commands;
using Krewe.Silo.Tests.Hosting;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Silo.Tests.Faults;

/// <summary>
/// Runs on silos with several devices: one that is lost is retired and its silo goes on with the others, one that is
/// drained gives up what it has, and the bits stay.
/// </summary>
[Collection(ProcessClusters.Name)]
public class PlaceTests(TestServers servers, ITestOutputHelper output)
{
    private const long After = 12;

    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(1, 3, LosingMoment.Forward, "silo-0:1")]
    [InlineData(1, 3, LosingMoment.BackwardWeight, "silo-0:2")]
    [InlineData(1, 3, LosingMoment.Apply, "silo-0")]
    [InlineData(2, 4, LosingMoment.ToHost, "silo-1:1")]
    [InlineData(2, 4, LosingMoment.Forward, "silo-0")]
    public async Task A_silo_goes_on_without_a_lost_device(int silos, int count, LosingMoment moment, string lost)
    {
        UndisturbedRun expected = await UndisturbedRun.OfAsync(TrainingCluster.Steps);
        using var folder = new TemporaryFolder();
        var devices = new List<LosingDevice>();
        await using EmbeddedCluster cluster = await StartAsync(silos, count, devices);
        LosingDevice device = devices[Array.IndexOf(cluster.PlaceNames, lost)];

        TrainingOutcome outcome = await TrainAsync(cluster, folder, _ =>
        {
            device.LoseAt(moment);
            return Task.CompletedTask;
        });

        RunRecovered recovery = Assert.Single(outcome.Recoveries);
        output.WriteLine(
            $"{recovery.FromStep} -> {recovery.ToStep} on {string.Join(", ", recovery.Silos)}: {recovery.Reason}");
        Assert.Equal(cluster.PlaceNames.Where(place => place != lost), recovery.Silos);
        // From the snapshot that another place keeps, not from the start.
        Assert.InRange(recovery.ToStep, After - 7, After + 10);
        DeviceStatus status = await cluster.Grains.GetGrain<IDeviceGrain>(lost).StatusAsync();
        Assert.Equal((true, 0, 0), (status.IsLost, status.Experts, status.Stages));
        PlaceStatus[] places = await cluster.Grains.GetGrain<IDeviceGrain>(PlaceName.SiloOf(lost)).PlacesAsync();
        Assert.Equal(lost, Assert.Single(places, place => place.IsLost).Name);
        expected.AssertSame(outcome, folder["run"]);
    }

    [Fact]
    public async Task A_run_ends_with_the_last_device()
    {
        using var folder = new TemporaryFolder();
        var devices = new List<LosingDevice>();
        await using EmbeddedCluster cluster = await StartAsync(silos: 1, count: 2, devices);

        TrainingOutcome outcome = await TrainAsync(cluster, folder, _ =>
        {
            devices.ForEach(device => device.LoseAt(LosingMoment.Forward));
            return Task.CompletedTask;
        });

        RunFailed failed = Assert.IsType<RunFailed>(outcome.Events[^1]);
        Assert.StartsWith("run 'run' has lost its last device, ", failed.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Experts_and_stages_move_between_the_devices_of_a_silo()
    {
        UndisturbedRun expected = await UndisturbedRun.OfAsync(TrainingCluster.Steps);
        using var folder = new TemporaryFolder();
        await using EmbeddedCluster cluster = await StartAsync(silos: 1, count: 3, []);
        string before = "", after = "";

        TrainingOutcome outcome = await TrainAsync(cluster, folder, async run =>
        {
            PlacementPlan plan = await cluster.Grains.GetGrain<IExpertPlacementGrain>("run").GetAsync();
            int layer = plan.SiloOfExpert.Keys.First();
            int index = Array.IndexOf(plan.SiloOfExpert[layer], 1);
            IExpertGrain expert = cluster.Grains.GetGrain<IExpertGrain>(GrainKeys.Expert("run", layer, index));
            before = (await expert.StatusAsync()).Silo;
            await run.DrainAsync("silo-0:1");
            after = (await expert.StatusAsync()).Silo;
        });

        RunMoved moved = Assert.Single(outcome.Moves);
        Assert.Equal(["silo-0", "silo-0:2"], moved.Silos);
        Assert.Equal("silo-0:1", before);
        Assert.Contains(after, moved.Silos);
        DeviceStatus left = await cluster.Grains.GetGrain<IDeviceGrain>("silo-0:1").StatusAsync();
        Assert.Equal((false, 0, 0), (left.IsLost, left.Experts, left.Stages));
        Assert.Empty(outcome.Recoveries);
        expected.AssertSame(outcome, folder["run"]);
    }

    [Fact]
    public async Task A_silo_process_goes_on_without_one_of_its_devices()
    {
        UndisturbedRun expected = await UndisturbedRun.OfAsync(TrainingCluster.Steps);
        using var data = new TemporaryFolder();
        await using TrainingCluster cluster = await TrainingCluster.StartAsync(
            servers, silos: 2, "lose:1:apply@13", devices: "cpu,cpu");

        TrainingOutcome outcome = await cluster.TrainAsync(
            TrainingCluster.Request(UndisturbedRun.WriteText(data)), long.MaxValue, _ => Task.CompletedTask,
            Cancellation);

        SiloProcess silo = cluster.Faulty!;
        string[] left = Places(cluster).Where(place => place != $"{silo.Name}:1").ToArray();
        Assert.Equal("cpu:0,cpu:1", (string)silo.Ready["device"]!);
        Assert.Equal(left, outcome.Recoveries[^1].Silos);
        Assert.False(silo.Process.HasExited);
        string line = Assert.Single(silo.Errors, error => error.StartsWith("krewe:", StringComparison.Ordinal));
        output.WriteLine(line);
        Assert.Contains("goes on with cpu:0: device cpu:1 is lost", line, StringComparison.Ordinal);
        expected.AssertSame(outcome, cluster.Folder);

        Outcome status = await cluster.ExecuteAsync("status", "--json");
        IEnumerable<JsonNode> silos = JsonNode.Parse(status.Out)!["silos"]!.AsArray()
            .Select(node => node!).Where(node => (string)node["state"]! == "active");
        Assert.Equal(
            Places(cluster).Select(place => (place, !left.Contains(place))),
            silos.SelectMany(node => node["places"]!.AsArray())
                .Select(place => ((string)place!["name"]!, (bool)place["lost"]!)));
        Outcome shown = await cluster.ExecuteAsync("status");
        Assert.Contains("cpu:1 (lost)", shown.Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_silo_process_ends_with_its_last_device()
    {
        UndisturbedRun expected = await UndisturbedRun.OfAsync(TrainingCluster.Steps);
        using var data = new TemporaryFolder();
        await using TrainingCluster cluster = await TrainingCluster.StartAsync(
            servers, silos: 2, "lose:forward@12", devices: "cpu,cpu");

        TrainingOutcome outcome = await cluster.TrainAsync(
            TrainingCluster.Request(UndisturbedRun.WriteText(data)), long.MaxValue, _ => Task.CompletedTask,
            Cancellation);

        SiloProcess silo = cluster.Faulty!;
        Assert.Equal(1, await silo.WaitForExitAsync(Patience));
        Assert.Contains(
            silo.Errors, line => line.Contains("ends, as a dead one does", StringComparison.Ordinal));
        Assert.Equal(
            Places(cluster).Where(place => PlaceName.SiloOf(place) != silo.Name), outcome.Recoveries[^1].Silos);
        expected.AssertSame(outcome, cluster.Folder);
    }

    [Fact]
    public async Task A_silo_with_several_devices_is_drained_of_all()
    {
        UndisturbedRun expected = await UndisturbedRun.OfAsync(TrainingCluster.Steps);
        using var data = new TemporaryFolder();
        await using TrainingCluster cluster = await TrainingCluster.StartAsync(
            servers, silos: 2, devices: "cpu,cpu");
        Outcome? drain = null;

        TrainingOutcome outcome = await cluster.TrainAsync(
            TrainingCluster.Request(UndisturbedRun.WriteText(data)), faultAfter: 5,
            async _ =>
            {
                string driver = await cluster.SiloOfAsync(cluster.Run);
                drain = await cluster.ExecuteAsync("drain", cluster.Silos.Keys.Single(silo => silo != driver));
            },
            Cancellation);

        Assert.Equal(0, drain!.Code);
        Assert.Equal(2, Assert.Single(outcome.Moves).Silos.Select(PlaceName.NumberOf).Distinct().Count());
        Assert.Single(outcome.Moves[0].Silos.Select(PlaceName.SiloOf).Distinct());
        expected.AssertSame(outcome, cluster.Folder);
    }

    private static Task<EmbeddedCluster> StartAsync(int silos, int count, List<LosingDevice> devices) =>
        EmbeddedCluster.StartAsync(
            new()
            {
                Silos = silos,
                CpuThreads = 1,
                Devices = [.. Enumerable.Repeat(DeviceName.Cpu, count)],
                Device = device =>
                {
                    devices.Add(new(new SeparateMemoryDevice(device, direct: true)));
                    return devices[^1];
                },
            },
            Cancellation);

    /// <summary>The two places of each silo process.</summary>
    private static string[] Places(TrainingCluster cluster) =>
    [
        .. cluster.Silos.Keys.Order(StringComparer.Ordinal).SelectMany(silo => new[] { silo, $"{silo}:1" }),
    ];

    /// <summary>Trains at all places, and does something after a step.</summary>
    private static async Task<TrainingOutcome> TrainAsync(
        EmbeddedCluster cluster, TemporaryFolder folder, Func<ITrainingRunGrain, Task> then)
    {
        ITrainingRunGrain run = cluster.Grains.GetGrain<ITrainingRunGrain>("run");
        await run.StartAsync(TrainingCluster.Request(UndisturbedRun.WriteText(folder)) with
        {
            Folder = folder["run"],
            Silos = cluster.PlaceNames,
            Elastic = false,
        });
        var outcome = new TrainingOutcome();
        Task happening = Task.CompletedTask;
        await foreach (RunEvent happened in run.WatchAsync(Cancellation))
        {
            outcome.Events.Add(happened);
            if (happened is StepCommitted step)
            {
                outcome.Losses[step.Report.Step] = step.Report.TotalLoss;
                if (step.Report.Step == After)
                {
                    happening = then(run);
                }
            }
        }

        await happening;
        return outcome;
    }
}
