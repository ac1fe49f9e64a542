namespace Krewe.Model.Configuration;

/// <summary>Named model configurations, so that <c>krewe train</c> needs no file.</summary>
public static class ModelPresets
{
    private static readonly Dictionary<string, Func<ModelConfig>> _known = new(StringComparer.OrdinalIgnoreCase)
    {
        ["tiny"] = Tiny,
        ["docs-26m"] = Docs26M,
        ["3b"] = OneCard3B,
        ["16b"] = V2Lite,
        ["671b"] = V3,
    };

    /// <summary>The known names, smallest model first.</summary>
    public static IReadOnlyCollection<string> Names => _known.Keys;

    /// <summary>The configuration called <paramref name="name"/>; upper and lower case are one.</summary>
    /// <exception cref="KreweException">There is none; the message lists the known ones.</exception>
    public static ModelConfig Get(string name) => _known.TryGetValue(name, out Func<ModelConfig>? preset)
        ? preset()
        : throw new KreweException($"no preset '{name}'; known: {string.Join(", ", Names)}");

    /// <summary>
    /// The default run: learns English words in two minutes on two CPU cores. Byte-level vocabulary: 256 bytes, then
    /// begin, end, and six spare ids that round the vocabulary to a multiple of eight.
    /// </summary>
    private static ModelConfig Tiny() => new()
    {
        VocabSize = 264,
        HiddenSize = 128,
        IntermediateSize = 384,
        MoeIntermediateSize = 64,
        NumHiddenLayers = 4,
        NumAttentionHeads = 4,
        NumKeyValueHeads = 4,
        NSharedExperts = 1,
        NRoutedExperts = 16,
        RoutedScalingFactor = 2.5,
        KvLoraRank = 64,
        QLoraRank = 64,
        QkRopeHeadDim = 16,
        VHeadDim = 32,
        QkNopeHeadDim = 32,
        NGroup = 4,
        TopkGroup = 2,
        NumExpertsPerTok = 4,
        FirstKDenseReplace = 1,
        MaxPositionEmbeddings = 512,
        BosTokenId = 256,
        EosTokenId = 257,
        NumNextnPredictLayers = 1,
        MtpPrevHidden = "pre_norm",
    };

    /// <summary>A 26M-parameter model with an 8192-token vocabulary, trained on .NET API documentation.</summary>
    private static ModelConfig Docs26M() => new()
    {
        VocabSize = 8192,
        HiddenSize = 256,
        IntermediateSize = 768,
        MoeIntermediateSize = 128,
        NumHiddenLayers = 6,
        NumAttentionHeads = 4,
        NumKeyValueHeads = 4,
        NSharedExperts = 1,
        NRoutedExperts = 32,
        RoutedScalingFactor = 2.5,
        KvLoraRank = 128,
        QLoraRank = 128,
        QkRopeHeadDim = 32,
        VHeadDim = 64,
        QkNopeHeadDim = 64,
        NGroup = 4,
        TopkGroup = 2,
        NumExpertsPerTok = 4,
        FirstKDenseReplace = 1,
        MaxPositionEmbeddings = 1024,
        BosTokenId = 0,
        EosTokenId = 1,
        NumNextnPredictLayers = 1,
        MtpPrevHidden = "post_norm",
    };

    /// <summary>
    /// A 3.1B-parameter model, 583M of them active, that one GPU of 80 GB trains in FP8 with bfloat16 moments. DeepSeek-V3's
    /// gate and heads; every size is a multiple of 128 but the latent with its rope key, as in DeepSeek-V3, so that all
    /// products take the tensor cores. Few and wide layers: a product's work grows with the product of hidden size and
    /// expert width, what is read and written around it with their sum.
    /// </summary>
    private static ModelConfig OneCard3B() => new()
    {
        VocabSize = 32768,
        HiddenSize = 2048,
        IntermediateSize = 5632,
        MoeIntermediateSize = 1536,
        NumHiddenLayers = 9,
        NumAttentionHeads = 16,
        NumKeyValueHeads = 16,
        NSharedExperts = 1,
        NRoutedExperts = 32,
        RoutedScalingFactor = 2.5,
        KvLoraRank = 512,
        QLoraRank = 768,
        QkRopeHeadDim = 64,
        VHeadDim = 128,
        QkNopeHeadDim = 128,
        NGroup = 4,
        TopkGroup = 2,
        NumExpertsPerTok = 4,
        FirstKDenseReplace = 1,
        MaxPositionEmbeddings = 4096,
        BosTokenId = 0,
        EosTokenId = 1,
        NumNextnPredictLayers = 1,
        MtpPrevHidden = "post_norm",
    };

    /// <summary>DeepSeek-V2-Lite: 15.7B parameters, softmax gate without groups, plain query projection.</summary>
    private static ModelConfig V2Lite() => new()
    {
        VocabSize = 102400,
        HiddenSize = 2048,
        IntermediateSize = 10944,
        MoeIntermediateSize = 1408,
        NumHiddenLayers = 27,
        NumAttentionHeads = 16,
        NumKeyValueHeads = 16,
        NSharedExperts = 2,
        NRoutedExperts = 64,
        RoutedScalingFactor = 1.0,
        KvLoraRank = 512,
        QLoraRank = null,
        QkRopeHeadDim = 64,
        VHeadDim = 128,
        QkNopeHeadDim = 128,
        NGroup = 1,
        TopkGroup = 1,
        NumExpertsPerTok = 6,
        FirstKDenseReplace = 1,
        NormTopkProb = false,
        ScoringFunc = "softmax",
        TopkMethod = "greedy",
        MaxPositionEmbeddings = 163840,
        RopeScaling = Yarn(mscale: 0.707),
        BosTokenId = 100000,
        EosTokenId = 100001,
        ModelType = "deepseek_v2",
        Architectures = ["DeepseekV2ForCausalLM"],
        AuxLossAlpha = 0.001,
    };

    /// <summary>
    /// DeepSeek-V3: 671B parameters. Without <c>quantization_config</c>: that belongs to a stored checkpoint, and
    /// writing one in FP8 adds it.
    /// </summary>
    private static ModelConfig V3() => new()
    {
        VocabSize = 129280,
        HiddenSize = 7168,
        IntermediateSize = 18432,
        MoeIntermediateSize = 2048,
        NumHiddenLayers = 61,
        NumAttentionHeads = 128,
        NumKeyValueHeads = 128,
        NSharedExperts = 1,
        NRoutedExperts = 256,
        RoutedScalingFactor = 2.5,
        KvLoraRank = 512,
        QLoraRank = 1536,
        QkRopeHeadDim = 64,
        VHeadDim = 128,
        QkNopeHeadDim = 128,
        NGroup = 8,
        TopkGroup = 4,
        NumExpertsPerTok = 8,
        FirstKDenseReplace = 3,
        MaxPositionEmbeddings = 163840,
        RopeScaling = Yarn(mscale: 1.0),
        BosTokenId = 0,
        EosTokenId = 1,
        NumNextnPredictLayers = 1,
    };

    private static YarnScaling Yarn(double mscale) => new()
    {
        Factor = 40,
        OriginalMaxPositionEmbeddings = 4096,
        BetaFast = 32,
        BetaSlow = 1,
        Mscale = mscale,
        MscaleAllDim = mscale,
    };
}
