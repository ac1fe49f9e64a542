using System.Text.Json.Nodes;
using System.Text.Json.Serialization;

namespace Krewe.Model.Configuration;

/// <summary>
/// What a model is: the keys of a Hugging Face <c>config.json</c> of the families <c>deepseek_v3</c> and
/// <c>deepseek_v2</c>, in PascalCase. Keys that Krewe does not know survive a load and a save in their place.
/// </summary>
/// <remarks>
/// A size that the file lacks is 0, so that <see cref="Validate"/> names it; other absent keys take the value that the
/// model family implies. Two configs are equal when their known keys are.
/// </remarks>
public sealed partial record ModelConfig
{
    /// <summary>Number of token ids, V.</summary>
    public int VocabSize { get; init; }

    /// <summary>Width of the residual stream, D.</summary>
    public int HiddenSize { get; init; }

    /// <summary>Inner width of the dense MLP in the first layers.</summary>
    public int IntermediateSize { get; init; }

    /// <summary>Inner width of one routed expert, F.</summary>
    public int MoeIntermediateSize { get; init; }

    /// <summary>Transformer layers without the MTP ones.</summary>
    public int NumHiddenLayers { get; init; }

    /// <summary>Attention heads, H.</summary>
    public int NumAttentionHeads { get; init; }

    /// <summary>Equal to <see cref="NumAttentionHeads"/> under MLA.</summary>
    public int NumKeyValueHeads { get; init; }

    /// <summary>Shared experts: one MLP of this many times <see cref="MoeIntermediateSize"/>; 0 for none.</summary>
    public int NSharedExperts { get; init; }

    /// <summary>Routed experts of a MoE layer, E; 0 for a dense model.</summary>
    public int NRoutedExperts { get; init; }

    /// <summary>Factor on the routed weights.</summary>
    public double RoutedScalingFactor { get; init; } = 1.0;

    /// <summary>Width of the compressed key-value latent.</summary>
    public int KvLoraRank { get; init; }

    /// <summary>Width of the compressed query latent; null or 0 for a plain query projection.</summary>
    public int? QLoraRank { get; init; }

    /// <summary>Width of the rotary part of a head, even.</summary>
    public int QkRopeHeadDim { get; init; }

    /// <summary>Width of a value head.</summary>
    public int VHeadDim { get; init; }

    /// <summary>Width of the part of a head without position.</summary>
    public int QkNopeHeadDim { get; init; }

    /// <summary>Groups of routed experts; 1 for none.</summary>
    public int NGroup { get; init; } = 1;

    /// <summary>Groups that a token may use.</summary>
    public int TopkGroup { get; init; } = 1;

    /// <summary>Experts per token, K.</summary>
    public int NumExpertsPerTok { get; init; }

    /// <summary>Layers at the start that have a dense MLP.</summary>
    public int FirstKDenseReplace { get; init; }

    /// <summary>Every how many layers experts appear; only 1 is supported.</summary>
    public int MoeLayerFreq { get; init; } = 1;

    /// <summary>The weights of the chosen experts are divided by their sum.</summary>
    public bool NormTopkProb { get; init; } = true;

    /// <summary><c>sigmoid</c> (V3) or <c>softmax</c> (V2).</summary>
    public string ScoringFunc { get; init; } = "sigmoid";

    /// <summary>
    /// <c>noaux_tc</c> (V3, with the routing bias), <c>greedy</c> or <c>group_limited_greedy</c> (V2).
    /// </summary>
    public string TopkMethod { get; init; } = "noaux_tc";

    /// <summary>Activation of the MLPs; only <c>silu</c> is supported.</summary>
    public string HiddenAct { get; init; } = "silu";

    /// <summary>Longest sequence, tokens.</summary>
    public int MaxPositionEmbeddings { get; init; }

    /// <summary>Standard deviation of fresh weights.</summary>
    public double InitializerRange { get; init; } = 0.02;

    /// <summary>Added to the mean square in RMSNorm.</summary>
    public double RmsNormEps { get; init; } = 1e-6;

    /// <summary>Base of the rotary frequencies.</summary>
    public double RopeTheta { get; init; } = 10000;

    /// <summary>YaRN; null for plain rotary embedding.</summary>
    public YarnScaling? RopeScaling { get; init; }

    /// <summary>Token that opens a document, if there is one.</summary>
    public int? BosTokenId { get; init; }

    /// <summary>Token that ends a document (the first one, where the file holds a list).</summary>
    public int? EosTokenId { get; init; }

    /// <summary>Head and embedding share one matrix; not supported.</summary>
    public bool TieWordEmbeddings { get; init; }

    /// <summary>Biases in the attention projections; not supported.</summary>
    public bool AttentionBias { get; init; }

    /// <summary>
    /// Type of the stored weights: <c>bfloat16</c>, <c>float32</c>... Files may call it <c>dtype</c>.
    /// </summary>
    public string TorchDtype { get; init; } = "bfloat16";

    /// <summary><c>deepseek_v3</c> or <c>deepseek_v2</c>.</summary>
    public string ModelType { get; init; } = "deepseek_v3";

    /// <summary>Class names for transformers.</summary>
    public string[] Architectures { get; init; } = ["DeepseekV3ForCausalLM"];

    /// <summary>Multi-token-prediction modules after the last layer; 0 for none.</summary>
    public int NumNextnPredictLayers { get; init; }

    /// <summary>
    /// <c>post_norm</c> feeds MTP the hidden state after the final norm, <c>pre_norm</c> (also when absent) before it.
    /// </summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? MtpPrevHidden { get; init; }

    /// <summary>
    /// Coefficient of the balance loss. Released V3 configs lack it; see <see cref="SequenceBalanceAlpha"/>.
    /// </summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? AuxLossAlpha { get; init; }

    /// <summary>The balance loss is taken per sequence.</summary>
    public bool SeqAux { get; init; } = true;

    /// <summary>How the stored weights are quantised; null where they are not.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public QuantizationConfig? QuantizationConfig { get; init; }

    /// <summary>Kept for transformers; Krewe always caches.</summary>
    public bool UseCache { get; init; } = true;

    /// <summary>
    /// The file as it was read, for the keys that Krewe does not know; null for a config made in code.
    /// </summary>
    [JsonIgnore]
    internal JsonObject? SourceJson { get; init; }

    /// <inheritdoc/>
    public bool Equals(ModelConfig? other) =>
        other is not null && JsonNode.DeepEquals(ModelConfigJson.KnownKeys(this), ModelConfigJson.KnownKeys(other));

    /// <inheritdoc/>
    public override int GetHashCode() =>
        HashCode.Combine(VocabSize, HiddenSize, NumHiddenLayers, NRoutedExperts, NumAttentionHeads, KvLoraRank);
}
