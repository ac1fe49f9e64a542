using Krewe.Grains.Interfaces;
using Krewe.Grains.Interfaces.Devices;
using Krewe.Grains.Interfaces.Experts;
using Krewe.Grains.Interfaces.Training;
using Krewe.Grains.Training;
using Krewe.Model.Configuration;
using Krewe.Model.Layers;
using Krewe.Model.Training;
using Krewe.Silo.Hosting;
using Xunit;

namespace Krewe.Grains.Tests.Training;

/// <summary>Loading, replacing and unloading models in a living cluster, and what happens at its edges.</summary>
public class ClusterModelTests
{
    private const string Name = "again";
    private const string Weight = "model.layers.1.mlp.experts.9.up_proj.weight";

    private static readonly ModelConfig Config = ModelPresets.Get("tiny");

    [Fact]
    public async Task A_name_may_be_used_again_and_gets_the_new_weights()
    {
        int before = ProcessExchange.Count;
        await using EmbeddedCluster cluster = await StartAsync();
        ClusterModel first = await LoadAsync(cluster, seed: 1);
        float[] old = await first.ReadParameterAsync(Weight);
        await TrainAsync(first);
        await first.DisposeAsync();

        ClusterModel second = await LoadAsync(cluster, seed: 1);
        Assert.Equal(old, await second.ReadParameterAsync(Weight));
        await TrainAsync(second);

        // Not disposed, as after a fault: the next one takes its place all the same, on other silos.
        await using ClusterModel third = await LoadAsync(cluster, seed: 2, [.. cluster.SiloNames.Reverse()]);
        Assert.NotEqual(old, await third.ReadParameterAsync(Weight));
        await TrainAsync(third);
        Assert.Equal(before, ProcessExchange.Count);
    }

    [Fact]
    public async Task Experts_live_where_the_plan_says()
    {
        await using EmbeddedCluster cluster = await StartAsync();
        await using ClusterModel model = await LoadAsync(cluster, seed: 1);
        await TrainAsync(model);
        foreach (int expert in new[] { 0, 7, 8, 15 })
        {
            ExpertStatus status = await cluster.Grains
                .GetGrain<IExpertGrain>(GrainKeys.Expert(Name, 2, expert)).StatusAsync();
            Assert.Equal(model.Plan.SiloOf(2, expert), status.Silo);
            Assert.Equal(3L * Config.MoeIntermediateSize * Config.HiddenSize, status.Parameters);
        }

        DeviceStatus device = await cluster.Grains.GetGrain<IDeviceGrain>("silo-1").StatusAsync();
        Assert.Equal(32, device.Experts);
        Assert.Equal("silo-1", device.Silo);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task Sequences_shorter_than_the_prediction_depth_are_no_fault(int length)
    {
        await using EmbeddedCluster cluster = await StartAsync();
        await using ClusterModel model = await LoadAsync(cluster, seed: 1, depths: 2);
        var trainer = new Trainer(model, model.Config, new() { Steps = 10, WarmupSteps = 0 });
        await trainer.StepAsync(0, [MicroBatch.OfTexts([[1, 2, 3, 4, 5, 6]])]);
        int[] text = [.. Enumerable.Range(1, length)];
        MicroBatch batch = MicroBatch.OfTexts([text, text]);
        StepReport report = await trainer.StepAsync(1, [batch with { Targets = [.. batch.Targets.Select(_ => 9)] }]);
        Assert.True(double.IsFinite(report.GradientNorm) && report.GradientNorm > 0);
        Assert.Equal(0, report.MtpLosses[1]);
    }

    [Fact]
    public async Task A_bias_that_was_edited_or_frozen_steers_the_next_step()
    {
        await using EmbeddedCluster cluster = await StartAsync();
        await using ClusterModel model = await LoadAsync(cluster, seed: 1);
        IRouterGrain router = cluster.Grains.GetGrain<IRouterGrain>(GrainKeys.Router(Name, 1));
        await router.FreezeAsync(true, "tester");
        await router.EditAsync(3, 100, "tester", "force the expert");
        await TrainAsync(model);
        Assert.Equal(100, (await model.ReadParameterAsync(ModelStage.BiasName(1)))[3]);
        MicroBatchReport report = await RunAsync(model, ForwardMode.Evaluation);
        LayerLoad load = report.Loads.Single(l => l.Layer == 1);
        Assert.Equal(Batch().Tokens.Length, load.Load[3]);
        RouterStatus status = await router.StatusAsync();
        Assert.True(status.Frozen);
        Assert.Equal(2, status.Audit.Length);
        await Assert.ThrowsAsync<ArgumentException>(() => router.EditAsync(16, 0, "tester", "no such expert"));
    }

    private static Task<EmbeddedCluster> StartAsync() =>
        EmbeddedCluster.StartAsync(new(), TestContext.Current.CancellationToken);

    private static Task<ClusterModel> LoadAsync(
        EmbeddedCluster cluster, ulong seed, string[]? silos = null, int depths = 1)
    {
        ModelConfig config = Config with { NumNextnPredictLayers = depths };
        return ClusterModel.CreateAsync(
            cluster.Grains, Name, new() { ConfigJson = config.ToJson(), Seed = seed, Training = true, MaxPositions = 64 },
            silos ?? cluster.SiloNames, stages: 2);
    }

    private static Task<StepReport> TrainAsync(ClusterModel model) =>
        new Trainer(model, Config, new() { Steps = 10, WarmupSteps = 0 }).StepAsync(0, [Batch()]);

    private static Task<MicroBatchReport> RunAsync(ClusterModel model, ForwardMode mode) =>
        model.RunAsync(0, 1, Batch(), new Trainer(model, Config, new()).Options([Batch()], mode));

    private static MicroBatch Batch() => MicroBatch.OfTexts([[.. Enumerable.Range(0, 40).Select(i => i * 37 % 251)]]);
}
