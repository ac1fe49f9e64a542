using System.Diagnostics;
using Krewe.Grains.Devices;
using Krewe.Grains.Training;
using Krewe.Model.Configuration;
using Krewe.Model.Tensors;
using Krewe.Model.Training;
using Krewe.Silo.Hosting;
using Microsoft.Extensions.DependencyInjection;

namespace Krewe.Cluster;

/// <summary>
/// The same training loop with and without Orleans on one GPU, for models that fit there once: loaded in turn on the same
/// device, with the same parameters and batches. Step n of one is compared with step n of the other.
/// </summary>
internal static class GrainCostInTurns
{
    private const int WarmupSteps = 3;

    public static async Task RunAsync(BenchmarkOptions options)
    {
        ModelConfig config = ModelPresets.Get(options.Preset ?? "3b");
        await using EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(
            new() { Silos = options.Silos, Devices = options.Devices });
        IDevice device = cluster.ServicesOf(0).GetRequiredService<DeviceHosts>().First.Device;
        List<double> clustered = [], without = [], ratios = [];
        double others = await Machine.OthersDuringAsync(async () =>
        {
            for (int turn = 0; turn < options.Turns; turn++)
            {
                (double[] Seconds, double Loss) with = await ClusterTurnAsync(cluster, config, options);
                (double[] Seconds, double Loss) local = await LocalTurnAsync(device, config, options);
                clustered.AddRange(with.Seconds);
                without.AddRange(local.Seconds);
                ratios.AddRange(with.Seconds.Zip(local.Seconds, (a, b) => a / b));
                Console.WriteLine(
                    $"turn {turn + 1}: with grains {Milliseconds(with.Seconds)}, without {Milliseconds(local.Seconds)}; last losses " +
                    $"{with.Loss:R} and {local.Loss:R}");
            }
        });
        int tokens = options.Batch * options.Length;
        Console.WriteLine(
            $"training {config.NumHiddenLayers} layers, {options.Batch} x {options.Length} tokens in {options.MicroBatches} " +
            $"micro-batches, {options.Precision.Name}, 2 stages, {options.Silos} silo(s), {options.Devices[0]}");
        Console.WriteLine($"  through the grains: {Milliseconds(clustered)}, {tokens / Machine.Median(clustered):F0} tokens/s");
        Console.WriteLine($"  the same loop without Orleans: {Milliseconds(without)}, {tokens / Machine.Median(without):F0} tokens/s");
        Console.WriteLine(
            $"  time with over time without, pair by pair: {Machine.Spread(ratios, "F3")}; {device.PeakBytes / 1e9:F1} GB of the device " +
            $"in use at most; other processes used {others:F2} cores");
    }

    private static async Task<(double[] Seconds, double Loss)> ClusterTurnAsync(
        EmbeddedCluster cluster, ModelConfig config, BenchmarkOptions options)
    {
        await using ClusterModel model = await ClusterModel.CreateAsync(
            cluster.Grains, "cost",
            new()
            {
                ConfigJson = config.ToJson(),
                Seed = 1,
                Training = true,
                MaxPositions = options.Length,
                MomentType = options.Precision.Moments,
                Precision = options.Precision.Name,
            },
            cluster.SiloNames, stages: 2);
        return await StepsAsync(new Trainer(model, config, Workload.Recipe(options)), config, options);
    }

    private static async Task<(double[] Seconds, double Loss)> LocalTurnAsync(
        IDevice device, ModelConfig config, BenchmarkOptions options)
    {
        LocalModel model = await LocalModel.LoadAsync(
            config, device, new SeededParameters(1, config.InitializerRange), stages: 2, options.Length, options.Precision);
        try
        {
            await model.PrepareForTrainingAsync(options.Precision.Moments);
            return await StepsAsync(new Trainer(model, config, Workload.Recipe(options)), config, options);
        }
        finally
        {
            // On the device, behind all work that touches the memory.
            await device.SubmitAsync(_ => model.Dispose(), WorkPriority.Background);
        }
    }

    private static async Task<(double[] Seconds, double Loss)> StepsAsync(
        Trainer trainer, ModelConfig config, BenchmarkOptions options)
    {
        double[] seconds = new double[options.Rounds];
        double loss = 0;
        for (int step = 0; step < WarmupSteps + options.Rounds; step++)
        {
            MicroBatch[] batch = Workload.Batch(config, options, step);
            long started = Stopwatch.GetTimestamp();
            StepReport report = await trainer.StepAsync(step, batch);
            if (step >= WarmupSteps)
            {
                seconds[step - WarmupSteps] = Stopwatch.GetElapsedTime(started).TotalSeconds;
            }

            loss = report.TotalLoss;
        }

        return (seconds, loss);
    }

    private static string Milliseconds(IReadOnlyCollection<double> seconds) =>
        Machine.Spread([.. seconds.Select(s => 1000 * s)], "F1") + " ms";
}
