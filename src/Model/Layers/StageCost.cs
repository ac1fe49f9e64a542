using Krewe.Model.Configuration;

namespace Krewe.Model.Layers;

/// <summary>
/// What a stage computes for one token, in multiply-adds of matrix products with weights. Norms, the softmax and the
/// products of attention scores, which grow with the length of the sequence alike in every layer, are left out.
/// </summary>
public static class StageCost
{
    /// <summary>The projections of one attention block; for DeepSeek-V3 187.1M.</summary>
    public static long Attention(ModelConfig config)
    {
        long hidden = config.HiddenSize, heads = config.NumAttentionHeads;
        long query = heads * config.QkHeadDim;
        long queryCost = config.QLoraRank is > 0 and int rank ? rank * (hidden + query) : hidden * query;
        long latent = hidden * (config.KvLoraRank + config.QkRopeHeadDim);
        long expanded = config.KvLoraRank * heads * (config.QkNopeHeadDim + config.VHeadDim);
        return queryCost + latent + expanded + (heads * config.VHeadDim * hidden);
    }

    /// <summary>
    /// One layer, main or MTP: attention, and the dense MLP or the gate with K routed and the shared experts.
    /// </summary>
    public static long Layer(ModelConfig config, int layer)
    {
        long hidden = config.HiddenSize;
        long feedForward = config.IsMoeLayer(layer)
            ? hidden * (config.NRoutedExperts
                + (3L * config.MoeIntermediateSize * (config.NumExpertsPerTok + config.NSharedExperts)))
            : 3 * hidden * config.IntermediateSize;
        return Attention(config) + feedForward;
    }

    /// <summary>What the last stage has beside its layers: the head, and MTP modules that each use it again.</summary>
    public static long HeadAndMtp(ModelConfig config)
    {
        long hidden = config.HiddenSize;
        long cost = Heads(config);
        for (int depth = 0; depth < config.NumNextnPredictLayers; depth++)
        {
            cost += (2 * hidden * hidden) + Layer(config, config.NumHiddenLayers + depth);
        }

        return cost;
    }

    /// <summary>The head, once for the main model and once for each MTP module.</summary>
    public static long Heads(ModelConfig config) =>
        (1L + config.NumNextnPredictLayers) * config.HiddenSize * config.VocabSize;

    /// <summary>
    /// Operations that training on one token takes by the usual count, a multiply-add being two: six for each weight that
    /// the token meets (two forward, four backward), MTP modules included, and in each layer, main or MTP,
    /// 6 H (dqk + dv) for each of the (S + 1) / 2 tokens that it attends to on average. Not counted: the embedding's
    /// lookup, norms, the softmax, the optimizer, and whatever is computed twice.
    /// </summary>
    /// <param name="config">The model.</param>
    /// <param name="sequenceLength">S, tokens.</param>
    public static double TrainingOperations(ModelConfig config, int sequenceLength)
    {
        double weights = HeadAndMtp(config);
        for (int layer = 0; layer < config.NumHiddenLayers; layer++)
        {
            weights += Layer(config, layer);
        }

        double pair = config.NumAttentionHeads * (config.QkHeadDim + config.VHeadDim);
        return 6 * (weights + (config.TotalLayers * pair * (sequenceLength + 1) / 2));
    }

    /// <summary>A whole stage; the embedding of the first one is a lookup and costs nothing.</summary>
    public static long Stage(ModelConfig config, StageRange range)
    {
        long cost = range.IsLast ? HeadAndMtp(config) : 0;
        for (int layer = range.FirstLayer; layer < range.FirstLayer + range.LayerCount; layer++)
        {
            cost += Layer(config, layer);
        }

        return cost;
    }
}
