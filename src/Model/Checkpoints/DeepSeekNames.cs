using Krewe.Model.Configuration;
using Krewe.Model.Tensors;

namespace Krewe.Model.Checkpoints;

/// <summary>
/// The tensors of a model under the names of the released checkpoints (V3 convert.py, README_WEIGHTS).
/// </summary>
public static class DeepSeekNames
{
    /// <summary>The embedding table.</summary>
    public const string EmbedTokens = "model.embed_tokens.weight";

    /// <summary>The norm after the last layer.</summary>
    public const string Norm = "model.norm.weight";

    /// <summary>The output head.</summary>
    public const string LmHead = "lm_head.weight";

    /// <summary>Names of layer <paramref name="index"/>.</summary>
    public static LayerNames Layer(int index) => new(index);

    /// <summary>Name of the dequantisation multiplier of FP8 weight <paramref name="name"/>.</summary>
    public static string ScaleOf(string name) => name + "_scale_inv";

    /// <summary>
    /// Whether released checkpoints keep <paramref name="name"/> in FP8: every projection of attention, MLP and
    /// experts; not the embedding, head, norms, gate, nor MTP's <c>eh_proj</c>.
    /// </summary>
    public static bool IsReleasedFp8(string name) =>
        (name.EndsWith("_proj.weight", StringComparison.Ordinal)
            && !name.EndsWith(".eh_proj.weight", StringComparison.Ordinal))
        || name.EndsWith("_proj_with_mqa.weight", StringComparison.Ordinal);

    /// <summary>Every tensor of a valid config: embedding, layers in order, final norm, head, MTP layers.</summary>
    public static IEnumerable<TensorSpec> Enumerate(ModelConfig config)
    {
        TensorShape vocabulary = new(config.VocabSize, config.HiddenSize);
        yield return new(EmbedTokens, vocabulary, TensorRole.Embedding);
        for (int layer = 0; layer < config.NumHiddenLayers; layer++)
        {
            foreach (TensorSpec spec in Block(config, layer))
            {
                yield return spec;
            }
        }

        yield return new(Norm, new(config.HiddenSize), TensorRole.Norm);
        yield return new(LmHead, vocabulary, TensorRole.Head);
        for (int layer = config.NumHiddenLayers; layer < config.TotalLayers; layer++)
        {
            foreach (TensorSpec spec in Mtp(config, layer))
            {
                yield return spec;
            }
        }
    }

    /// <summary>
    /// The tensors of transformer block <paramref name="layer"/>, without the extras of an MTP module.
    /// </summary>
    public static IEnumerable<TensorSpec> Block(ModelConfig config, int layer)
    {
        LayerNames names = Layer(layer);
        yield return new(names.InputLayernorm, new(config.HiddenSize), TensorRole.Norm, layer);
        foreach (TensorSpec spec in Attention(config, names))
        {
            yield return spec;
        }

        yield return new(names.PostAttentionLayernorm, new(config.HiddenSize), TensorRole.Norm, layer);
        IEnumerable<TensorSpec> mlp = config.IsMoeLayer(layer)
            ? Experts(config, names)
            : FeedForward(config, names.Mlp, config.IntermediateSize, TensorRole.FeedForward, layer);
        foreach (TensorSpec spec in mlp)
        {
            yield return spec;
        }
    }

    private static IEnumerable<TensorSpec> Attention(ModelConfig config, LayerNames names)
    {
        int layer = names.Index;
        int hidden = config.HiddenSize;
        int heads = config.NumAttentionHeads;
        int queries = heads * config.QkHeadDim;
        if (config.QLoraRank is > 0 and int rank)
        {
            yield return new(names.QAProj, new(rank, hidden), TensorRole.Attention, layer);
            yield return new(names.QALayernorm, new(rank), TensorRole.Norm, layer);
            yield return new(names.QBProj, new(queries, rank), TensorRole.Attention, layer);
        }
        else
        {
            yield return new(names.QProj, new(queries, hidden), TensorRole.Attention, layer);
        }

        int latent = config.KvLoraRank;
        yield return new(names.KvAProjWithMqa, new(latent + config.QkRopeHeadDim, hidden), TensorRole.Attention, layer);
        yield return new(names.KvALayernorm, new(latent), TensorRole.Norm, layer);
        int keysAndValues = heads * (config.QkNopeHeadDim + config.VHeadDim);
        yield return new(names.KvBProj, new(keysAndValues, latent), TensorRole.Attention, layer);
        yield return new(names.OProj, new(hidden, heads * config.VHeadDim), TensorRole.Attention, layer);
    }

    private static IEnumerable<TensorSpec> Experts(ModelConfig config, LayerNames names)
    {
        int layer = names.Index;
        int experts = config.NRoutedExperts;
        yield return new(names.Gate, new(experts, config.HiddenSize), TensorRole.Router, layer);
        if (config.HasRoutingBias)
        {
            yield return new(names.ScoreCorrectionBias, new(experts), TensorRole.RouterBias, layer);
        }

        int width = config.MoeIntermediateSize;
        for (int expert = 0; expert < experts; expert++)
        {
            foreach (TensorSpec spec in
                FeedForward(config, names.Expert(expert), width, TensorRole.Expert, layer, expert))
            {
                yield return spec;
            }
        }

        if (config.NSharedExperts > 0)
        {
            foreach (TensorSpec spec in FeedForward(
                config, names.SharedExperts, config.NSharedExperts * width, TensorRole.SharedExpert, layer))
            {
                yield return spec;
            }
        }
    }

    private static TensorSpec[] FeedForward(
        ModelConfig config, FeedForwardNames names, int width, TensorRole role, int layer, int expert = -1) =>
    [
        new(names.GateProj, new(width, config.HiddenSize), role, layer, expert),
        new(names.UpProj, new(width, config.HiddenSize), role, layer, expert),
        new(names.DownProj, new(config.HiddenSize, width), role, layer, expert),
    ];

    private static IEnumerable<TensorSpec> Mtp(ModelConfig config, int layer)
    {
        LayerNames names = Layer(layer);
        int hidden = config.HiddenSize;
        TensorShape vocabulary = new(config.VocabSize, hidden);
        yield return new(names.Enorm, new(hidden), TensorRole.Norm, layer);
        yield return new(names.Hnorm, new(hidden), TensorRole.Norm, layer);
        yield return new(names.EhProj, new(hidden, 2 * hidden), TensorRole.MtpProjection, layer);
        foreach (TensorSpec spec in Block(config, layer))
        {
            yield return spec;
        }

        yield return new(names.SharedHeadNorm, new(hidden), TensorRole.Norm, layer);
        yield return new(names.EmbedTokens, vocabulary, TensorRole.Duplicate, layer, Source: EmbedTokens);
        yield return new(names.SharedHeadHead, vocabulary, TensorRole.Duplicate, layer, Source: LmHead);
    }
}
