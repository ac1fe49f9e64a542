using Krewe.Grains.Interfaces.Pipeline;
using Krewe.Grains.Training;
using Krewe.Model.Configuration;
using Krewe.Model.Kernels;
using Krewe.Model.Pipeline;
using Krewe.Model.Tensors;
using Krewe.Model.Training;
using Krewe.Silo.Hosting;
using Xunit;

namespace Krewe.Grains.Tests.Pipeline;

/// <summary>Waits have a deadline and a name; a plan that names what is not there is refused.</summary>
public class WatchdogTests
{
    private static readonly ModelConfig Config = ModelPresets.Get("tiny");

    [Fact]
    public async Task An_operation_that_does_not_end_is_named_with_rank_and_silo()
    {
        var held = new TaskCompletionSource();
        bool holding = false;
        await using EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(
            new() { Device = device => new HeldDevice(device, () => holding ? held.Task : Task.CompletedTask) },
            TestContext.Current.CancellationToken);
        var layout = new PipelineLayout(PipelineMethod.OneForwardOneBackward, 2);
        await using ClusterModel model = await ClusterModel.CreateAsync(
            cluster.Grains, "held", new() { ConfigJson = Config.ToJson(), Training = true, MaxPositions = 64 },
            cluster.SiloNames, layout);
        MicroBatch[] batch = [.. Enumerable.Range(0, 2).Select(_ => MicroBatch.OfTexts([[1, 2, 3, 4, 5, 6, 7, 8]]))];
        await model.BeginAsync(0, 0);
        holding = true;

        TimeoutException late = await Assert.ThrowsAsync<TimeoutException>(() =>
            cluster.Grains.GetGrain<IDualPipeCoordinatorGrain>("held").RunStepAsync(new()
            {
                Step = 0,
                Attempt = 0,
                Layout = layout,
                Plan = model.Plan,
                Batch = batch,
                Options = new Trainer(model, Config, new()).Options(batch, Model.Layers.ForwardMode.Training),
                OperationDeadline = TimeSpan.FromMilliseconds(500),
            }));

        Assert.Matches("step 0 of 'held': F0.0 on rank [01] \\(silo 'silo-[01]'\\) has not ended", late.Message);
        holding = false;
        held.SetResult();
        await model.AbandonAsync(0);
    }

    [Fact]
    public async Task A_plan_with_an_absent_silo_is_refused_by_name()
    {
        await using EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(new(), TestContext.Current.CancellationToken);
        Exception refused = await Assert.ThrowsAnyAsync<Exception>(() => ClusterModel.CreateAsync(
            cluster.Grains, "absent", new() { ConfigJson = Config.ToJson() }, ["silo-0", "nowhere"], 2));
        Assert.Contains("'nowhere'", refused.Message, StringComparison.Ordinal);
    }

    /// <summary>A device that holds back what is submitted to it.</summary>
    private sealed class HeldDevice(IDevice inner, Func<Task> hold) : IDevice
    {
        public string Name => inner.Name;

        public IKernels Kernels => inner.Kernels;

        public string MemorySpace => inner.MemorySpace;

        public long ReservedBytes => inner.ReservedBytes;

        public DeviceLoss Loss => inner.Loss;

        public Arena CreateArena(string name) => inner.CreateArena(name);

        public Arena CreateHostArena(string name) => inner.CreateHostArena(name);

        public async Task SubmitAsync(Action<IKernels> work, WorkPriority priority = default)
        {
            await hold();
            await inner.SubmitAsync(work, priority);
        }

        public async Task SubmitAsync<TState>(
            Action<IKernels, TState> work, TState state, WorkPriority priority = default)
        {
            await hold();
            await inner.SubmitAsync(work, state, priority);
        }

        public void Dispose() => inner.Dispose();
    }
}
