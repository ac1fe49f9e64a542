using Krewe.Model.Configuration;
using Xunit;

namespace Krewe.Model.Tests.Configuration;

public sealed class ModelConfigValidatorTests
{
    private static readonly ModelConfig _sound = ModelPresets.Get("tiny");

    public static TheoryData<string, ModelConfig> Faulty => new()
    {
        { "vocab_size is 0", _sound with { VocabSize = 0, BosTokenId = null, EosTokenId = null } },
        { "hidden_size is -4", _sound with { HiddenSize = -4 } },
        { "intermediate_size is 0", _sound with { IntermediateSize = 0 } },
        { "moe_intermediate_size is 0", _sound with { MoeIntermediateSize = 0 } },
        { "num_hidden_layers is 0", _sound with { NumHiddenLayers = 0, FirstKDenseReplace = 0 } },
        { "num_key_value_heads is 2, num_attention_heads 4", _sound with { NumKeyValueHeads = 2 } },
        { "n_shared_experts is -1", _sound with { NSharedExperts = -1 } },
        { "n_routed_experts is -1", _sound with { NRoutedExperts = -1 } },
        { "routed_scaling_factor is 0", _sound with { RoutedScalingFactor = 0 } },
        { "kv_lora_rank is 0", _sound with { KvLoraRank = 0 } },
        { "q_lora_rank is -1", _sound with { QLoraRank = -1 } },
        { "qk_rope_head_dim is 15", _sound with { QkRopeHeadDim = 15 } },
        { "v_head_dim is 0", _sound with { VHeadDim = 0 } },
        { "qk_nope_head_dim is 0", _sound with { QkNopeHeadDim = 0 } },
        { "n_group 3 does not divide n_routed_experts 16", _sound with { NGroup = 3 } },
        { "n_group is 0", _sound with { NGroup = 0 } },
        { "topk_group is 0", _sound with { TopkGroup = 0 } },
        { "topk_group is 5, n_group only 4", _sound with { TopkGroup = 5 } },
        { "num_experts_per_tok is 9, the 2 kept groups", _sound with { NumExpertsPerTok = 9 } },
        { "num_experts_per_tok is 17, n_routed_experts only 16", _sound with { NumExpertsPerTok = 17, TopkGroup = 4 } },
        { "num_experts_per_tok is 0", _sound with { NumExpertsPerTok = 0 } },
        { "n_group 16 leaves 1 expert", _sound with { NGroup = 16, TopkGroup = 4 } },
        { "first_k_dense_replace is 5", _sound with { FirstKDenseReplace = 5 } },
        { "moe_layer_freq is 2", _sound with { MoeLayerFreq = 2 } },
        { "scoring_func is 'tanh'", _sound with { ScoringFunc = "tanh" } },
        { "topk_method is 'best'", _sound with { TopkMethod = "best" } },
        { "hidden_act is 'gelu'", _sound with { HiddenAct = "gelu" } },
        { "max_position_embeddings is 0", _sound with { MaxPositionEmbeddings = 0 } },
        { "initializer_range is 0", _sound with { InitializerRange = 0 } },
        { "rms_norm_eps is NaN", _sound with { RmsNormEps = double.NaN } },
        { "rope_theta is -1", _sound with { RopeTheta = -1 } },
        { "rope_scaling.type is 'linear'", _sound with { RopeScaling = new() { Type = "linear" } } },
        { "rope_scaling.factor is 0.5", _sound with { RopeScaling = new() { Factor = 0.5, OriginalMaxPositionEmbeddings = 64 } } },
        { "original_max_position_embeddings is 0", _sound with { RopeScaling = new() { Factor = 4 } } },
        {
            "rope_scaling.beta_fast is 1, beta_slow 32",
            _sound with { RopeScaling = new() { OriginalMaxPositionEmbeddings = 64, BetaFast = 1, BetaSlow = 32 } }
        },
        { "bos_token_id is 264", _sound with { BosTokenId = 264 } },
        { "eos_token_id is -1", _sound with { EosTokenId = -1 } },
        { "tie_word_embeddings is true", _sound with { TieWordEmbeddings = true } },
        { "attention_bias is true", _sound with { AttentionBias = true } },
        { "torch_dtype is 'int8'", _sound with { TorchDtype = "int8" } },
        { "model_type is 'llama'", _sound with { ModelType = "llama" } },
        { "num_nextn_predict_layers is -1", _sound with { NumNextnPredictLayers = -1 } },
        { "mtp_prev_hidden is 'both'", _sound with { MtpPrevHidden = "both" } },
        { "aux_loss_alpha is -1", _sound with { AuxLossAlpha = -1 } },
        { "quant_method is 'gptq'", _sound with { QuantizationConfig = new() { QuantMethod = "gptq" } } },
        { "weight_block_size is [128]", _sound with { QuantizationConfig = new() { WeightBlockSize = [128] } } },
        { "more than 2^31 rows", _sound with { NumAttentionHeads = 1 << 30, NumKeyValueHeads = 1 << 30 } },
    };

    [Theory]
    [MemberData(nameof(Faulty))]
    public void A_fault_is_named_alone(string expected, ModelConfig config)
    {
        Assert.Contains(expected, Assert.Single(config.Validate()));
    }

    [Theory]
    [InlineData("tiny")]
    [InlineData("docs-26m")]
    [InlineData("3b")]
    [InlineData("16b")]
    [InlineData("671b")]
    public void Presets_are_sound(string name) => Assert.Empty(ModelPresets.Get(name).Validate());

    [Fact]
    public void Every_fault_is_reported_at_once()
    {
        ModelConfig config = _sound with { NGroup = 3, HiddenAct = "gelu", QkRopeHeadDim = 3 };
        KreweException exception = Assert.Throws<KreweException>(() => config.ThrowIfInvalid("mine"));
        Assert.StartsWith("mine: ", exception.Message);
        Assert.Equal(3, config.Validate().Count);
        Assert.All(config.Validate(), fault => Assert.Contains(fault, exception.Message));
        Assert.DoesNotContain("\n", exception.Message);
    }

    [Fact]
    public void An_unknown_preset_lists_the_known_ones()
    {
        KreweException exception = Assert.Throws<KreweException>(() => ModelPresets.Get("huge"));
        Assert.Contains("'huge'; known: tiny, docs-26m, 3b, 16b, 671b", exception.Message);
    }
}
