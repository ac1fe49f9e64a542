using Krewe.Model.Configuration;
using Krewe.Model.Layers;
using Xunit;

namespace Krewe.Model.Tests.Layers;

/// <summary>The usual count of a training step's operations.</summary>
public class StageCostTests
{
    [Theory]
    [InlineData("docs-26m", 512)]
    [InlineData("3b", 4096)]
    [InlineData("16b", 4096)]
    [InlineData("671b", 4096)]
    public void Training_takes_six_operations_for_each_active_weight_and_those_of_attention(string preset, int length)
    {
        ModelConfig config = ModelPresets.Get(preset) with { NumNextnPredictLayers = 0 };
        ParameterCounts counts = ParameterCounts.Of(config);
        // Norm scales and the one row of the embedding are active parameters, and no matrix product.
        long latents = config.KvLoraRank + (config.QLoraRank ?? 0);
        long norms = (config.NumHiddenLayers * ((2L * config.HiddenSize) + latents)) + config.HiddenSize;
        long weights = counts.Active - norms - config.HiddenSize;
        // Queries times keys and probabilities times values, forward and twice backward, of the pairs that are not masked.
        double pairs = Enumerable.Range(1, length).Sum(context => (double)context) / length;
        double attention = 3.0 * 2 * config.NumAttentionHeads * (config.QkHeadDim + config.VHeadDim) * pairs;

        Assert.Equal(
            (6.0 * weights) + (config.NumHiddenLayers * attention), StageCost.TrainingOperations(config, length), 1e-9 * weights);
    }

    [Fact]
    public void Figures_of_the_3b_preset()
    {
        ModelConfig config = ModelPresets.Get("3b");
        ParameterCounts counts = ParameterCounts.Of(config);

        Assert.InRange(counts.Total + counts.Mtp, 2e9, 4e9);
        Assert.Equal(3.09e9, counts.Total + counts.Mtp, 0.05e9);
        Assert.Equal(0.583e9, counts.Active, 0.005e9);
        Assert.Equal(4.93e9, StageCost.TrainingOperations(config, 4096), 0.05e9);
        Assert.All(
            new[]
            {
                config.VocabSize, config.HiddenSize, config.IntermediateSize, config.MoeIntermediateSize, config.KvLoraRank,
                config.QLoraRank!.Value, config.NumAttentionHeads * config.QkHeadDim, config.NumAttentionHeads * config.VHeadDim,
            },
            size => Assert.Equal(0, size % 128));
    }
}
