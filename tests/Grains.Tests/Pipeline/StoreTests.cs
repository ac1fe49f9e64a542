using Krewe.Grains.Devices;
using Krewe.Grains.Interfaces;
using Krewe.Grains.Interfaces.Pipeline;
using Krewe.Grains.Training;
using Krewe.Model.Configuration;
using Krewe.Model.Layers;
using Krewe.Model.Pipeline;
using Krewe.Model.Training;
using Krewe.Silo.Hosting;
using Microsoft.Extensions.DependencyInjection;
using Xunit;

namespace Krewe.Grains.Tests.Pipeline;

/// <summary>What DualPipe keeps in the device stores, counted there.</summary>
public class StoreTests(ITestOutputHelper output)
{
    private const int Ranks = 4;
    private const int MicroBatches = 16;

    [Fact]
    public async Task A_stage_keeps_as_many_micro_batches_as_the_schedule_says()
    {
        ModelConfig config = ModelPresets.Get("tiny");
        await using EmbeddedCluster cluster = await StartAsync(Ranks);
        await using ClusterModel model = await LoadAsync(cluster, config, PipelineMethod.DualPipe, training: true);
        var random = new Random(3);
        MicroBatch[] batch = [.. Enumerable.Range(0, MicroBatches).Select(_ => MicroBatch.OfTexts(
            [Enumerable.Range(0, 16).Select(_ => random.Next(config.VocabSize)).ToArray()]))];
        var recipe = new TrainingConfig { BatchSize = MicroBatches, MicroBatches = MicroBatches, SequenceLength = 16 };

        var trainer = new Trainer(model, config, recipe);
        await trainer.StepAsync(0, batch);
        await trainer.StepAsync(1, batch);

        var schedule = PipelineSchedule.Create(PipelineMethod.DualPipe, Ranks, MicroBatches);
        for (int rank = 0; rank < Ranks; rank++)
        {
            int[] kept = [.. StoreOf(cluster, rank, PipelineMethod.DualPipe).Stages.OrderBy(stage => stage.Range.Index == rank ? 0 : 1)
                .Select(stage => stage.SlotsAllocated)];
            int[] live = [PeakOf(schedule.Ops[rank], 0), PeakOf(schedule.Ops[rank], 1)];
            output.WriteLine($"rank {rank}: kept {string.Join(" + ", kept)}, by the schedule {string.Join(" + ", live)}");
            Assert.All(kept, slots => Assert.InRange(slots, 1, Ranks + 1));
            Assert.Equal(live, kept);
        }
    }

    [Theory]
    [InlineData(4)]
    [InlineData(2)]
    public async Task Experts_embedding_and_head_are_kept_once_and_stages_once_for_each_silo_that_has_them(int silos)
    {
        ModelConfig config = ModelPresets.Get("docs-26m");
        await using EmbeddedCluster cluster = await StartAsync(silos);
        long single, dual, stages;
        await using (ClusterModel model = await LoadAsync(cluster, config, PipelineMethod.Sequential, training: false))
        {
            single = Stores(cluster, PipelineMethod.Sequential).Sum(store => store.ParameterSets.Sum(set => set.Count));
            stages = Stores(cluster, PipelineMethod.Sequential).Sum(store => store.Stages.Sum(stage => stage.Parameters.Count));
        }

        await using (ClusterModel model = await LoadAsync(cluster, config, PipelineMethod.DualPipe, training: false))
        {
            dual = Stores(cluster, PipelineMethod.DualPipe).Sum(store => store.ParameterSets.Sum(set => set.Count));
        }

        output.WriteLine(
            $"{silos} silos: {single:N0} parameters, dualpipe {dual:N0} ({(double)dual / single:F3}); stages {stages:N0}");
        // With two ranks a silo these are the two that hold the same stages.
        Assert.Equal(silos < Ranks ? single : single + stages, dual);
        Assert.InRange((double)dual / single, 1, 1.15);
    }

    private static Task<EmbeddedCluster> StartAsync(int silos) =>
        EmbeddedCluster.StartAsync(new() { Silos = silos, CpuThreads = 2 }, TestContext.Current.CancellationToken);

    private static Task<ClusterModel> LoadAsync(
        EmbeddedCluster cluster, ModelConfig config, PipelineMethod method, bool training) => ClusterModel.CreateAsync(
            cluster.Grains, NameOf(method),
            new() { ConfigJson = config.ToJson(), Seed = 1, Training = training, MaxPositions = 64 },
            cluster.SiloNames, new PipelineLayout(method, Ranks));

    private static string NameOf(PipelineMethod method) => $"stores-{method.Name()}";

    private static HostedModel StoreOf(EmbeddedCluster cluster, int silo, PipelineMethod method) =>
        cluster.ServicesOf(silo).GetRequiredService<DeviceHosts>().First.ModelOf(NameOf(method));

    private static IEnumerable<HostedModel> Stores(EmbeddedCluster cluster, PipelineMethod method) =>
        cluster.SiloNames.Select((_, silo) => StoreOf(cluster, silo, method));

    /// <summary>Most micro-batches of one of a rank's stages whose activations are alive at once.</summary>
    private static int PeakOf(IReadOnlyList<PipelineOp> ops, int chunk)
    {
        int held = 0, peak = 0;
        foreach (PipelineOp op in ops)
        {
            held += op.Tasks.Count(task => task.Chunk == chunk && task.Work == PipelineWork.Forward);
            peak = Math.Max(peak, held);
            held -= op.Tasks.Count(task => task.Chunk == chunk && task.FreesActivations);
        }

        return peak;
    }
}
