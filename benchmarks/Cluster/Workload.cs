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
        SequenceLength = options.Length,
        LearningRate = 1e-4,
        WarmupSteps = 0,
    };

    public static MicroBatch[] Batch(ModelConfig config, BenchmarkOptions options, int seed)
    {
        var random = new Random(seed);
        int[] tokens = [.. Enumerable.Range(0, options.Batch * options.Length).Select(_ => random.Next(5, config.VocabSize))];
        int[] targets = [.. tokens.Skip(1), 5];
        return [MicroBatch.Equal(tokens, targets, options.Length)];
    }
}
