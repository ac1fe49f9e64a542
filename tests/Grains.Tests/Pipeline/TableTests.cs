using Krewe.Grains.Devices;
using Krewe.Grains.Interfaces;
using Krewe.Grains.Interfaces.Devices;
using Krewe.Grains.Interfaces.Pipeline;
using Krewe.Grains.Training;
using Krewe.Model.Configuration;
using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Layers;
using Krewe.Model.Pipeline;
using Krewe.Model.Tensors;
using Krewe.Model.Training;
using Krewe.Silo.Hosting;
using Microsoft.Extensions.DependencyInjection;
using Xunit;

namespace Krewe.Grains.Tests.Pipeline;

/// <summary>Embedding and head under DualPipe, held once or with each direction: with the gradients of both.</summary>
public class TableTests
{
    private const int Ranks = 4;
    private const int MicroBatches = 8;
    private const ulong Seed = 5;

    /// <summary>Embedding and head are a fortieth of it; a wider vocabulary makes them weigh.</summary>
    private static readonly ModelConfig Small = ModelPresets.Get("tiny") with { NumHiddenLayers = 4, NumNextnPredictLayers = 2 };

    private static readonly ModelConfig Wide = Small with { VocabSize = 1024 };

    private static readonly ForwardOptions Options = new(ForwardMode.Training, 1e-2, [3e-3, 2e-3], new(1e-3, BalanceLossScope.Sequence, MicroBatches));

    [Theory]
    [InlineData(true, false)]
    [InlineData(true, true)]
    [InlineData(false, false)]
    [InlineData(false, true)]
    public async Task Every_owner_has_the_gradients_of_both_directions(bool once, bool apart)
    {
        ModelConfig config = once ? Wide : Small;
        MicroBatch[] batch = Batch(config);
        using var pool = new ComputePool(1);
        using var device = new CpuDevice(pool, "cpu:0");
        using LocalModel local = await LocalModel.LoadAsync(
            config, device, new SeededParameters(Seed, config.InitializerRange), 1, 64);
        await local.PrepareForTrainingAsync(DType.Float32);
        IReadOnlyList<MicroBatchReport> expected = await local.RunStepAsync(0, batch, Options);

        await using EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(
            new() { Silos = Ranks, CpuThreads = 2, InBand = apart }, TestContext.Current.CancellationToken);
        await using ClusterModel model = await ClusterModel.CreateAsync(
            cluster.Grains, "tables", new() { ConfigJson = config.ToJson(), Seed = Seed, Training = true, MaxPositions = 64 },
            cluster.SiloNames, new PipelineLayout(PipelineMethod.DualPipe, Ranks), apart ? Guid.NewGuid() : null);
        IReadOnlyList<MicroBatchReport> actual = await model.RunStepAsync(0, batch, Options);

        HostedTables[] tables = [.. cluster.SiloNames.Select((_, silo) =>
            cluster.ServicesOf(silo).GetRequiredService<DeviceHosts>().First.ModelOf("tables").Tables)];
        Assert.Equal(!once, model.Plan.TableReplicas);
        Assert.Equal([true, false, false, !once], tables.Select(held => held.Embedding is not null));
        Assert.Equal([!once, false, false, true], tables.Select(held => held.Head is not null));
        Assert.All(tables.Select(held => held.Embedding?.Parameters).OfType<ParameterSet>(), embedding =>
            AssertSame(local.Stages[0].Embedding!.Parameters, embedding));
        Assert.All(tables.Select(held => held.Head?.Parameters).OfType<ParameterSet>(), head =>
            AssertSame(local.Last.Head!.Parameters, head));
        for (int slot = 0; slot < MicroBatches; slot++)
        {
            Assert.Equal(expected[slot].Losses.MainSum, actual[slot].Losses.MainSum);
            Assert.Equal(expected[slot].Losses.MtpSums, actual[slot].Losses.MtpSums);
        }
    }

    [Fact]
    public async Task The_head_is_refused_where_it_is_not()
    {
        await using EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(
            new() { Silos = 2, CpuThreads = 2 }, TestContext.Current.CancellationToken);
        await using ClusterModel model = await ClusterModel.CreateAsync(
            cluster.Grains, "refused", new() { ConfigJson = Wide.ToJson(), Seed = Seed, Training = true, MaxPositions = 64 },
            cluster.SiloNames, new PipelineLayout(PipelineMethod.DualPipe, 2));
        var mirror = cluster.Grains.GetGrain<IPipelineStageGrain>(GrainKeys.Stage("refused", 1, 1));

        InvalidOperationException refused = await Assert.ThrowsAsync<InvalidOperationException>(() => mirror.RunHeadAsync(
            new(new(1, 0, 0), TensorParcel.Empty, TensorParcel.Empty, 1, Guid.NewGuid())));

        Assert.Contains("the head of 'refused' is not with stage 1, direction 1", refused.Message);
    }

    private static MicroBatch[] Batch(ModelConfig config)
    {
        var random = new Random(3);
        return [.. Enumerable.Range(0, MicroBatches).Select(_ => MicroBatch.OfTexts(
            [Enumerable.Range(0, 24).Select(_ => random.Next(config.VocabSize)).ToArray()]))];
    }

    private static void AssertSame(ParameterSet expected, ParameterSet actual)
    {
        for (int bank = 0; bank < 2; bank++)
        {
            Assert.True(
                expected.GradientBanks[bank].AsSpan<float>().SequenceEqual(actual.GradientBanks[bank].AsSpan<float>()),
                $"bank {bank} of '{expected.All[0].Name}' differs");
            Assert.NotEqual(0f, TensorValues.ToFloats(actual.GradientBanks[bank]).Max());
        }
    }
}
