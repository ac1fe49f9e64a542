using Krewe.Model.Configuration;
using Krewe.Model.Training;

namespace Krewe.Cluster;

/// <summary>Random tokens of a seed: speed does not depend on what they say.</summary>
internal static class Workload
{
    public static TrainingConfig Recipe(BenchmarkOptions options) => new()
    {
        Steps = 1_000_000,
        BatchSize = options.Batch,
        MicroBatches = options.MicroBatches,
        SequenceLength = options.Length,
        LearningRate = 1e-4,
        WarmupSteps = 0,
        Precision = options.Precision.Name,
        MomentType = options.Precision.Moments,
    };

    public static MicroBatch[] Batch(ModelConfig config, BenchmarkOptions options, int seed)
    {
        var random = new Random(seed);
        int tokens = options.Batch / options.MicroBatches * options.Length;
        return [.. Enumerable.Range(0, options.MicroBatches).Select(_ =>
        {
            int[] ids = [.. Enumerable.Range(0, tokens).Select(_ => random.Next(5, config.VocabSize))];
            return MicroBatch.Equal(ids, [.. ids.Skip(1), 5], options.Length);
        })];
    }
}
