using System.Diagnostics;
using Krewe.Model.Configuration;
using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Tensors;
using Krewe.Model.Training;

namespace Krewe.Cluster;

/// <summary>Training steps of a preset without MTP, as the libtorch peer measures them.</summary>
internal static class TrainingSpeed
{
    public static async Task RunAsync(BenchmarkOptions options)
    {
        ModelConfig config = ModelPresets.Get(options.Preset ?? "docs-26m") with { NumNextnPredictLayers = 0 };
        using ComputePool pool = ComputePool.ForThisMachine(options.Threads);
        using var device = new CpuDevice(pool, "cpu:0");
        using LocalModel model = await LocalModel.LoadAsync(
            config, device, new SeededParameters(1, config.InitializerRange), stages: 1, options.Length);
        await model.PrepareForTrainingAsync(DType.Float32);
        var trainer = new Trainer(model, config, Workload.Recipe(options));
        var rates = new List<double>();
        double others = await Machine.OthersDuringAsync(async () =>
        {
            for (int round = -2; round < options.Rounds; round++)
            {
                MicroBatch[] batch = Workload.Batch(config, options, round + 2);
                long started = Stopwatch.GetTimestamp();
                StepReport report = await trainer.StepAsync(round + 2, batch);
                double seconds = Stopwatch.GetElapsedTime(started).TotalSeconds;
                if (round >= 0)
                {
                    rates.Add(options.Batch * options.Length / seconds);
                }

                if (round == options.Rounds - 1)
                {
                    Console.WriteLine($"loss {report.MainLoss:F3}");
                }
            }
        });
        Console.WriteLine(
            $"train {options.Batch} x {options.Length}, fp32, {options.Threads} thread(s), tokens/s: {Machine.Spread(rates)}; " +
            $"{device.ReservedBytes / 1e6:F0} MB in arenas; other processes used {others:F2} cores");
    }
}
