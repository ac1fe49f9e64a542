using Krewe.Model.Checkpoints;
using Krewe.Model.Configuration;

namespace Krewe.Model.Tests.Checkpoints;

/// <summary>A model of a few thousand weights whose values follow from name and seed.</summary>
internal static class TinyCheckpoint
{
    internal static readonly ModelConfig Config = ModelPresets.Get("tiny") with
    {
        HiddenSize = 160,
        NumHiddenLayers = 2,
        NRoutedExperts = 4,
        NGroup = 2,
        TopkGroup = 1,
        NumExpertsPerTok = 2,
        IntermediateSize = 144,
        MoeIntermediateSize = 24,
    };

    internal static float[] Values(TensorSpec spec, int seed = 0)
    {
        Random random = new(seed + spec.Name.Aggregate(17, (hash, letter) => (hash * 31) + letter));
        float[] values = new float[spec.Shape.Count];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = (float)((random.NextDouble() - 0.5) * Math.Pow(10, random.Next(-3, 2)));
        }

        return values;
    }

    internal static TensorFiller Filler(int seed = 0) => (spec, destination) => Values(spec, seed).CopyTo(destination);

    internal static void Write(string folder, CheckpointWriteOptions? options = null, int seed = 0) =>
        CheckpointWriter.Write(folder, Config, options ?? new(), Filler(seed));

    /// <summary>0 or 1: which seed the whole folder was written with. Fails on a mixture.</summary>
    internal static int SeedOf(string folder)
    {
        using CheckpointReader reader = CheckpointReader.Open(folder);
        reader.CheckUp(Config);
        int[] seeds =
        [
            .. DeepSeekNames.Enumerate(Config).Where(spec => spec.Source is null)
                .Select(spec => Enumerable.Range(0, 2).Single(
                    seed => Values(spec, seed).AsSpan().SequenceEqual(reader.ReadFloat32(spec.Name))))
                .Distinct(),
        ];
        return seeds.Single();
    }
}
