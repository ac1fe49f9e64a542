using System.Diagnostics;
using Krewe.Grains.Interfaces;
using Krewe.Grains.Training;
using Krewe.Model.Configuration;
using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Tensors;
using Krewe.Model.Training;
using Krewe.Silo.Hosting;

namespace Krewe.Cluster;

/// <summary>The same training loop with and without Orleans, step by step in turn.</summary>
internal static class GrainCost
{
    public static async Task RunAsync(BenchmarkOptions options)
    {
        ModelConfig config = ModelPresets.Get(options.Preset ?? "tiny");
        TrainingConfig recipe = Workload.Recipe(options);
        await using EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(
            new() { Silos = options.Silos, CpuThreads = options.Threads });
        await using ClusterModel grains = await ClusterModel.CreateAsync(
            cluster.Grains, "cost",
            new() { ConfigJson = config.ToJson(), Seed = 1, Training = true, MaxPositions = options.Length },
            cluster.SiloNames, stages: 2);
        using ComputePool pool = ComputePool.ForThisMachine(options.Threads);
        using var device = new CpuDevice(pool, "cpu:0");
        using LocalModel local = await LocalModel.LoadAsync(
            config, device, new SeededParameters(1, config.InitializerRange), stages: 2, options.Length);
        await local.PrepareForTrainingAsync(DType.Float32);
        var clusterTrainer = new Trainer(grains, config, recipe);
        var localTrainer = new Trainer(local, config, recipe);
        List<double> clustered = [], without = [], ratios = [];
        double others = await Machine.OthersDuringAsync(async () =>
        {
            for (int round = -2; round < options.Rounds; round++)
            {
                MicroBatch[] batch = Workload.Batch(config, options, round + 2);
                double a = await TimeAsync(clusterTrainer, round + 2, batch);
                double b = await TimeAsync(localTrainer, round + 2, batch);
                if (round >= 0)
                {
                    int tokens = options.Batch * options.Length;
                    clustered.Add(tokens / a);
                    without.Add(tokens / b);
                    ratios.Add(b / a);
                }
            }
        });
        Console.WriteLine($"training {config.NumHiddenLayers} layers, {options.Batch} x {options.Length}, tokens/s");
        Console.WriteLine($"  {options.Silos} silos in this process: {Machine.Spread(clustered)}");
        Console.WriteLine($"  the same loop without Orleans: {Machine.Spread(without)}");
        Console.WriteLine($"  ratio, pair by pair: {Machine.Median(ratios):F3} (min {ratios.Min():F3}, max {ratios.Max():F3}); other processes used {others:F2} cores");
    }

    private static async Task<double> TimeAsync(Trainer trainer, int step, MicroBatch[] batch)
    {
        long started = Stopwatch.GetTimestamp();
        await trainer.StepAsync(step, batch);
        return Stopwatch.GetElapsedTime(started).TotalSeconds;
    }
}
