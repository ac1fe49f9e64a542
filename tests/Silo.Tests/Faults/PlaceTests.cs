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
        await using EmbeddedRun run = await EmbeddedRun.StartAsync(silos, count);
        LosingDevice device = run.DeviceOf(lost);

        TrainingOutcome outcome = await run.TrainAsync(() =>
        {
            device.LoseAt(moment);
            return Task.CompletedTask;
        });

        RunRecovered recovery = Assert.Single(outcome.Recoveries);
        output.WriteLine(
            $"{recovery.FromStep} -> {recovery.ToStep} on {string.Join(", ", recovery.Silos)}: {recovery.Reason}");
        Assert.Equal(run.Cluster.PlaceNames.Where(place => place != lost), recovery.Silos);
        // From the snapshot that another place keeps, not from the start.
        Assert.InRange(recovery.ToStep, EmbeddedRun.After - 7, EmbeddedRun.After + 10);
        DeviceStatus status = await run.Cluster.Grains.GetGrain<IDeviceGrain>(lost).StatusAsync();
        Assert.Equal((true, 0, 0), (status.IsLost, status.Experts, status.Stages));
        PlaceStatus[] places =
            await run.Cluster.Grains.GetGrain<IDeviceGrain>(PlaceName.SiloOf(lost)).PlacesAsync();
        Assert.Equal(lost, Assert.Single(places, place => place.IsLost).Name);
        expected.AssertSame(outcome, run.Folder);
    }

    [Fact]
    public async Task A_run_ends_with_the_last_device()
    {
        await using EmbeddedRun run = await EmbeddedRun.StartAsync(silos: 1, devices: 2);

        TrainingOutcome outcome = await run.TrainAsync(() =>
        {
            Assert.All(run.Devices, device => device.LoseAt(LosingMoment.Forward));
            return Task.CompletedTask;
        });

        RunFailed failed = Assert.IsType<RunFailed>(outcome.Events[^1]);
        Assert.StartsWith("run 'run' has lost its last device, ", failed.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Experts_and_stages_move_between_the_devices_of_a_silo()
    {
        UndisturbedRun expected = await UndisturbedRun.OfAsync(TrainingCluster.Steps);
        await using EmbeddedRun run = await EmbeddedRun.StartAsync(silos: 1, devices: 3);
        IGrainFactory grains = run.Cluster.Grains;
        string before = "", after = "";

        TrainingOutcome outcome = await run.TrainAsync(async () =>
        {
            PlacementPlan plan = await grains.GetGrain<IExpertPlacementGrain>("run").GetAsync();
            int layer = plan.SiloOfExpert.Keys.First();
            int index = Array.IndexOf(plan.SiloOfExpert[layer], 1);
            IExpertGrain expert = grains.GetGrain<IExpertGrain>(GrainKeys.Expert("run", layer, index));
            before = (await expert.StatusAsync()).Silo;
            await run.Run.DrainAsync("silo-0:1");
            after = (await expert.StatusAsync()).Silo;
        });

        RunMoved moved = Assert.Single(outcome.Moves);
        Assert.Equal(["silo-0", "silo-0:2"], moved.Silos);
        Assert.Equal("silo-0:1", before);
        Assert.Contains(after, moved.Silos);
        DeviceStatus left = await grains.GetGrain<IDeviceGrain>("silo-0:1").StatusAsync();
        Assert.Equal((false, 0, 0), (left.IsLost, left.Experts, left.Stages));
        Assert.Empty(outcome.Recoveries);
        expected.AssertSame(outcome, run.Folder);
    }

    [Fact]
    public async Task A_silo_process_goes_on_without_one_of_its_devices()
    {
        await using TrainingCluster cluster = await TrainingCluster.StartAsync(
            servers, silos: 2, "lose:1:apply@13", devices: "cpu,cpu");

        TrainingOutcome outcome = await TrainAsync(cluster);

        SiloProcess silo = cluster.Faulty!;
        string[] left = Places(cluster).Where(place => place != $"{silo.Name}:1").ToArray();
        Assert.Equal("cpu:0,cpu:1", (string)silo.Ready["device"]!);
        Assert.Equal(left, outcome.Recoveries[^1].Silos);
        Assert.False(silo.Process.HasExited);
        string line = Assert.Single(silo.Errors, error => error.StartsWith("krewe:", StringComparison.Ordinal));
        output.WriteLine(line);
        Assert.Contains("goes on with cpu:0: device cpu:1 is lost", line, StringComparison.Ordinal);

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
        await using TrainingCluster cluster = await TrainingCluster.StartAsync(
            servers, silos: 2, "lose:forward@12", devices: "cpu,cpu");

        TrainingOutcome outcome = await TrainAsync(cluster);

        SiloProcess silo = cluster.Faulty!;
        Assert.Equal(1, await silo.WaitForExitAsync(Patience));
        Assert.Contains(
            silo.Errors, line => line.Contains("ends, as a dead one does", StringComparison.Ordinal));
        Assert.Equal(
            Places(cluster).Where(place => PlaceName.SiloOf(place) != silo.Name), outcome.Recoveries[^1].Silos);
    }

    [Fact]
    public async Task A_silo_with_several_devices_is_drained_of_all()
    {
        await using TrainingCluster cluster = await TrainingCluster.StartAsync(servers, silos: 2, devices: "cpu,cpu");
        Outcome? drain = null;

        TrainingOutcome outcome = await TrainAsync(cluster, async () =>
        {
            string driver = await cluster.SiloOfAsync(cluster.Run);
            SiloProcess leaves = cluster.Silos.Values.Single(silo => silo.Name != driver);
            drain = await cluster.ExecuteAsync("drain", leaves.Name);
            await leaves.WaitForExitAsync(Patience);
        });

        Assert.Equal(0, drain!.Code);
        Assert.Equal(2, Assert.Single(outcome.Moves).Silos.Select(PlaceName.NumberOf).Distinct().Count());
        Assert.Single(outcome.Moves[0].Silos.Select(PlaceName.SiloOf).Distinct());
    }

    /// <summary>Trains on processes of two devices each; something happens by itself, or after step 5.</summary>
    private static async Task<TrainingOutcome> TrainAsync(TrainingCluster cluster, Func<Task>? then = null)
    {
        UndisturbedRun expected = await UndisturbedRun.OfAsync(TrainingCluster.Steps);
        using var data = new TemporaryFolder();
        TrainingOutcome outcome = await cluster.TrainAsync(
            TrainingCluster.Request(UndisturbedRun.WriteText(data)), then is null ? long.MaxValue : 5,
            _ => then!(), Cancellation);
        expected.AssertSame(outcome, cluster.Folder);
        return outcome;
    }

    /// <summary>The two places of each silo process.</summary>
    private static string[] Places(TrainingCluster cluster) =>
    [
        .. cluster.Silos.Keys.Order(StringComparer.Ordinal).SelectMany(silo => new[] { silo, $"{silo}:1" }),
    ];
}
