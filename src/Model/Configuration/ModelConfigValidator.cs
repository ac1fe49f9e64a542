namespace Krewe.Model.Configuration;

/// <summary>
/// The rules that a <see cref="ModelConfig"/> keeps. Every broken one is reported, not just the first.
/// </summary>
internal sealed class ModelConfigValidator
{
    private readonly List<string> _faults = [];

    internal static List<string> Faults(ModelConfig config)
    {
        ModelConfigValidator validator = new();
        validator.CheckSizes(config);
        validator.CheckAttention(config);
        validator.CheckRope(config);
        validator.CheckExperts(config);
        validator.CheckUnsupported(config);
        validator.CheckNumbers(config);
        validator.CheckQuantization(config);
        return validator._faults;
    }

    private void CheckSizes(ModelConfig config)
    {
        Positive("vocab_size", config.VocabSize);
        Positive("hidden_size", config.HiddenSize);
        Positive("num_hidden_layers", config.NumHiddenLayers);
        Positive("num_attention_heads", config.NumAttentionHeads);
        Positive("max_position_embeddings", config.MaxPositionEmbeddings);
        bool hasDense = config.FirstKDenseReplace > 0 || config.NRoutedExperts == 0;
        if (hasDense)
        {
            Positive("intermediate_size", config.IntermediateSize);
        }

        Natural("num_nextn_predict_layers", config.NumNextnPredictLayers);
        Natural("first_k_dense_replace", config.FirstKDenseReplace);
        Require(
            config.FirstKDenseReplace <= config.NumHiddenLayers,
            $"first_k_dense_replace is {config.FirstKDenseReplace}, num_hidden_layers only {config.NumHiddenLayers}");
        Token("bos_token_id", config.BosTokenId, config.VocabSize);
        Token("eos_token_id", config.EosTokenId, config.VocabSize);
    }

    private void CheckAttention(ModelConfig config)
    {
        Positive("kv_lora_rank", config.KvLoraRank);
        Positive("qk_nope_head_dim", config.QkNopeHeadDim);
        Positive("qk_rope_head_dim", config.QkRopeHeadDim);
        Positive("v_head_dim", config.VHeadDim);
        Natural("q_lora_rank", config.QLoraRank ?? 0);
        Require(
            config.QkRopeHeadDim % 2 == 0,
            $"qk_rope_head_dim is {config.QkRopeHeadDim}; it must be even, since rotary embedding turns pairs");
        Require(
            config.NumKeyValueHeads == config.NumAttentionHeads,
            $"num_key_value_heads is {config.NumKeyValueHeads}, num_attention_heads {config.NumAttentionHeads}; " +
            "latent attention needs them equal");
        long widest = (long)config.QkNopeHeadDim + Math.Max(config.QkRopeHeadDim, config.VHeadDim);
        Require(
            config.NumAttentionHeads * widest <= int.MaxValue && 2L * config.HiddenSize <= int.MaxValue,
            $"num_attention_heads {config.NumAttentionHeads}, head width {widest} and hidden_size " +
            $"{config.HiddenSize} make a matrix of more than 2^31 rows or columns");
    }

    private void CheckRope(ModelConfig config)
    {
        PositiveNumber("rope_theta", config.RopeTheta);
        if (config.RopeScaling is not { } yarn)
        {
            return;
        }

        if (yarn.Type != "yarn")
        {
            _faults.Add($"rope_scaling.type is '{yarn.Type}'; only yarn is supported");
            return;
        }

        Require(
            yarn.Factor >= 1 && double.IsFinite(yarn.Factor),
            $"rope_scaling.factor is {yarn.Factor}, must be 1 or more");
        Positive("rope_scaling.original_max_position_embeddings", yarn.OriginalMaxPositionEmbeddings);
        Require(
            yarn.BetaFast > yarn.BetaSlow && yarn.BetaSlow > 0,
            $"rope_scaling.beta_fast is {yarn.BetaFast}, beta_slow {yarn.BetaSlow}; fast > slow > 0 is wanted");
        Require(
            yarn.Mscale >= 0 && yarn.MscaleAllDim >= 0,
            $"rope_scaling.mscale is {yarn.Mscale}, mscale_all_dim {yarn.MscaleAllDim}; neither may be negative");
    }

    private void CheckExperts(ModelConfig config)
    {
        int experts = config.NRoutedExperts;
        Natural("n_routed_experts", experts);
        Natural("n_shared_experts", config.NSharedExperts);
        OneOf("scoring_func", config.ScoringFunc, "sigmoid", "softmax");
        OneOf("topk_method", config.TopkMethod, "noaux_tc", "greedy", "group_limited_greedy");
        if (experts <= 0)
        {
            return;
        }

        Positive("moe_intermediate_size", config.MoeIntermediateSize);
        Positive("num_experts_per_tok", config.NumExpertsPerTok);
        Require(
            config.NumExpertsPerTok <= experts,
            $"num_experts_per_tok is {config.NumExpertsPerTok}, n_routed_experts only {experts}");
        Require(
            (long)config.NSharedExperts * config.MoeIntermediateSize <= int.MaxValue,
            $"n_shared_experts {config.NSharedExperts} times moe_intermediate_size {config.MoeIntermediateSize} " +
            "is too wide");
        PositiveNumber("routed_scaling_factor", config.RoutedScalingFactor);
        if (config.TopkMethod != "greedy")
        {
            CheckGroups(config);
        }
    }

    private void CheckGroups(ModelConfig config)
    {
        int experts = config.NRoutedExperts;
        Positive("n_group", config.NGroup);
        Positive("topk_group", config.TopkGroup);
        if (config.NGroup <= 0 || config.TopkGroup <= 0)
        {
            return;
        }

        Require(
            config.TopkGroup <= config.NGroup, $"topk_group is {config.TopkGroup}, n_group only {config.NGroup}");
        if (experts % config.NGroup != 0)
        {
            _faults.Add($"n_group {config.NGroup} does not divide n_routed_experts {experts}");
            return;
        }

        int perGroup = experts / config.NGroup;
        long available = (long)perGroup * Math.Min(config.TopkGroup, config.NGroup);
        Require(
            config.NumExpertsPerTok <= available || config.NumExpertsPerTok > experts,
            $"num_experts_per_tok is {config.NumExpertsPerTok}, the {config.TopkGroup} kept groups (topk_group) of " +
            $"{perGroup} experts hold only {available}");
        Require(
            config.TopkMethod != "noaux_tc" || config.NGroup == 1 || perGroup >= 2,
            $"n_group {config.NGroup} leaves {perGroup} expert a group; noaux_tc ranks groups by their best two");
    }

    private void CheckUnsupported(ModelConfig config)
    {
        OneOf("model_type", config.ModelType, "deepseek_v3", "deepseek_v2");
        OneOf("hidden_act", config.HiddenAct, "silu");
        OneOf("mtp_prev_hidden", config.MtpPrevHidden ?? "pre_norm", "post_norm", "pre_norm");
        OneOf("torch_dtype", config.TorchDtype, "bfloat16", "float32", "float16", "float8_e4m3fn");
        Require(!config.TieWordEmbeddings, "tie_word_embeddings is true; only false is supported");
        Require(!config.AttentionBias, "attention_bias is true; only false is supported");
        Require(config.MoeLayerFreq == 1, $"moe_layer_freq is {config.MoeLayerFreq}; only 1 is supported");
    }

    private void CheckNumbers(ModelConfig config)
    {
        PositiveNumber("rms_norm_eps", config.RmsNormEps);
        PositiveNumber("initializer_range", config.InitializerRange);
        double alpha = config.SequenceBalanceAlpha;
        Require(alpha >= 0 && double.IsFinite(alpha), $"aux_loss_alpha is {alpha}, must be 0 or more");
    }

    private void CheckQuantization(ModelConfig config)
    {
        if (config.QuantizationConfig is not { } quantization)
        {
            return;
        }

        OneOf("quantization_config.quant_method", quantization.QuantMethod, "fp8");
        OneOf("quantization_config.fmt", quantization.Fmt, "e4m3", "e5m2");
        Require(
            quantization.WeightBlockSize is [> 0, > 0],
            $"quantization_config.weight_block_size is [{string.Join(", ", quantization.WeightBlockSize)}], " +
            "two positive numbers are wanted");
    }

    private void Require(bool holds, string fault)
    {
        if (!holds)
        {
            _faults.Add(fault);
        }
    }

    private void Positive(string key, int value) => Require(value > 0, $"{key} is {value}, must be positive");

    private void PositiveNumber(string key, double value) =>
        Require(value > 0 && double.IsFinite(value), $"{key} is {value}, must be positive and finite");

    private void Natural(string key, int value) => Require(value >= 0, $"{key} is {value}, must not be negative");

    private void Token(string key, int? value, int vocabSize) =>
        Require(
            value is null || (value >= 0 && value < vocabSize), $"{key} is {value}, outside vocab_size {vocabSize}");

    private void OneOf(string key, string value, params ReadOnlySpan<string> known) =>
        Require(known.Contains(value), $"{key} is '{value}'; supported: {string.Join(", ", known!)}");
}
