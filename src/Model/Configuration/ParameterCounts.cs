using Krewe.Model.Checkpoints;

namespace Krewe.Model.Configuration;

/// <summary>
/// Numbers of parameters, added up from the tensor list without allocating a weight. The routing bias is a buffer and
/// counts nowhere; MTP's copies of embedding and head count once, with the originals.
/// </summary>
/// <param name="Total">Everything but the MTP modules; 671.026B for DeepSeek-V3.</param>
/// <param name="Mtp">The MTP modules with their <c>eh_proj</c>; 11.61B for DeepSeek-V3.</param>
/// <param name="Active">
/// Parameters that take part in one token's forward pass, without MTP: K of the E experts, and one row of the embedding
/// table, which is a lookup.
/// </param>
/// <param name="Embedding">The embedding table; the head is as large.</param>
/// <param name="MoeLayer">One layer with experts, attention included; 0 where there is none.</param>
/// <param name="Expert">One routed expert; 0 where there is none.</param>
/// <param name="Attention">One attention block with the norms of its latents.</param>
/// <param name="DenseLayer">One layer with a dense MLP, attention included; 0 where there is none.</param>
public sealed record ParameterCounts(
    long Total, long Mtp, long Active, long Embedding, long MoeLayer, long Expert, long Attention, long DenseLayer)
{
    /// <summary>Embedding and head as a share of all parameters, those of the MTP modules included.</summary>
    public double TableShare => 2.0 * Embedding / (Total + Mtp);

    /// <summary>The counts of <paramref name="config"/>, which must be valid.</summary>
    public static ParameterCounts Of(ModelConfig config)
    {
        long total = 0, mtp = 0, embedding = 0, expert = 0, attention = 0;
        long[] layers = new long[config.TotalLayers];
        foreach (TensorSpec spec in DeepSeekNames.Enumerate(config))
        {
            if (!spec.IsParameter)
            {
                continue;
            }

            long count = spec.Shape.Count;
            total += spec.Layer < config.NumHiddenLayers ? count : 0;
            mtp += spec.Layer >= config.NumHiddenLayers ? count : 0;
            embedding += spec.Role == TensorRole.Embedding ? count : 0;
            attention += spec.Layer == 0 && spec.Name.Contains(".self_attn.", StringComparison.Ordinal) ? count : 0;
            if (spec.Layer >= 0)
            {
                layers[spec.Layer] += count;
            }

            // All experts are alike: keep the size of any one.
            if (spec.Role == TensorRole.Expert && spec.Expert == 0)
            {
                expert += count;
            }
        }

        int moeLayers = Enumerable.Range(0, config.TotalLayers).Count(config.IsMoeLayer);
        expert = moeLayers == 0 ? 0 : expert / moeLayers;
        int mainMoeLayers = Enumerable.Range(0, config.NumHiddenLayers).Count(config.IsMoeLayer);
        long idle = mainMoeLayers * (long)(config.NRoutedExperts - config.NumExpertsPerTok) * expert;
        long active = total - embedding + config.HiddenSize - idle;
        int moe = Enumerable.Range(0, config.NumHiddenLayers).FirstOrDefault(config.IsMoeLayer, -1);
        int dense = Enumerable.Range(0, config.NumHiddenLayers).FirstOrDefault(layer => !config.IsMoeLayer(layer), -1);
        return new(
            total, mtp, active, embedding, moe < 0 ? 0 : layers[moe], expert, attention, dense < 0 ? 0 : layers[dense]);
    }
}
