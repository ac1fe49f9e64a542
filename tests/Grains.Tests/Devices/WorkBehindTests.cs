using Krewe.Grains.Interfaces;
using Krewe.Grains.Interfaces.Pipeline;
using Krewe.Grains.Training;
using Krewe.Model;
using Krewe.Model.Configuration;
using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Layers;
using Krewe.Model.Pipeline;
using Krewe.Model.Tensors;
using Krewe.Model.Training;
using Krewe.Silo.Hosting;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Grains.Tests.Devices;

/// <summary>
/// Work behind which its call has gone on (docs/decisions/0017) and that fails: whoever asks next is told, before a
/// step is committed.
/// </summary>
public class WorkBehindTests
{
    private static readonly ModelConfig Config = ModelPresets.Get("tiny");

    private static readonly TrainingConfig Recipe =
        new() { Steps = 4, WarmupSteps = 0, BatchSize = 2, MicroBatches = 2, SequenceLength = 16 };

    [Theory]
    [InlineData(LosingMoment.Forward)]
    [InlineData(LosingMoment.BackwardWeight)]
    public async Task A_fault_within_a_step_is_told_before_the_step_is_committed(LosingMoment moment)
    {
        await using var stage = await LoneStage.LoadAsync();
        await stage.Trainer.StepAsync(0, Batch());

        Task failed = stage.Device.FailBehind(moment, new KreweException("behind the launch"));
        KreweException told = await Assert.ThrowsAsync<KreweException>(() => stage.Trainer.PrepareAsync(1, Batch()));

        Assert.Equal("behind the launch", told.Message);
        Assert.True(failed.IsCompletedSuccessfully);
    }

    /// <summary>AdamW is launched with the commit: the call that launches it has returned when it fails.</summary>
    [Fact]
    public async Task A_fault_behind_a_call_that_has_returned_is_told_at_the_next()
    {
        await using var stage = await LoneStage.LoadAsync();
        await stage.Trainer.StepAsync(0, Batch());

        Task failed = stage.Device.FailBehind(LosingMoment.Apply, new KreweException("behind the launch"));
        await stage.Trainer.StepAsync(1, Batch());
        await failed.WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
        KreweException told = await Assert.ThrowsAsync<KreweException>(() => stage.Trainer.PrepareAsync(2, Batch()));

        Assert.Equal("behind the launch", told.Message);
    }

    [Fact]
    public async Task Works_are_launched_and_one_of_them_fails_behind()
    {
        using var pool = new ComputePool(1);
        using var device = new LosingDevice(new CpuDevice(pool, "cpu:0"));
        var works = new SubmittedWorks(device);
        _ = device.FailBehind(LosingMoment.Forward, new KreweException("behind the launch"));

        works.Submit(_ => { });
        works.Submit(kernels => kernels.GroupedLinear([]));
        works.Submit(_ => { });

        await works.LaunchedAsync();
        KreweException told = await Assert.ThrowsAsync<KreweException>(works.DoneAsync);
        Assert.Equal("behind the launch", told.Message);
        // Told once.
        await works.DoneAsync();
    }

    private static MicroBatch[] Batch()
    {
        var random = new Random(3);
        return [.. Enumerable.Range(0, Recipe.MicroBatches).Select(_ => MicroBatch.OfTexts(
            [Enumerable.Range(0, Recipe.SequenceLength).Select(_ => random.Next(Config.VocabSize)).ToArray()]))];
    }

    /// <summary>A model of one stage on one silo, whose device has memory of its own: its calls end at the launch.</summary>
    private sealed class LoneStage(EmbeddedCluster cluster, ClusterModel model, LosingDevice device) : IAsyncDisposable
    {
        public LosingDevice Device => device;

        public Trainer Trainer { get; } = new(model, Config, Recipe);

        public static async Task<LoneStage> LoadAsync()
        {
            LosingDevice? losing = null;
            EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(
                new()
                {
                    Silos = 1,
                    CpuThreads = 1,
                    Device = device => losing = new(new SeparateMemoryDevice(device)),
                },
                TestContext.Current.CancellationToken);
            ClusterModel model = await ClusterModel.CreateAsync(
                cluster.Grains, "behind",
                new ModelSource { ConfigJson = Config.ToJson(), Seed = 1, Training = true, MaxPositions = 64 },
                cluster.SiloNames, new PipelineLayout(PipelineMethod.Sequential, 1));
            return new(cluster, model, losing!);
        }

        public async ValueTask DisposeAsync()
        {
            await model.DisposeAsync();
            await cluster.DisposeAsync();
        }
    }
}
