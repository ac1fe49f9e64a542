using System.Text.Json.Nodes;
using Krewe.Model.Configuration;
using Krewe.Model.Kernels;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Configuration;

public sealed class ModelConfigTests
{
    private const string V2LiteJson = """
        {
          "architectures": ["DeepseekV2ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
          "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV2Config"}, "aux_loss_alpha": 0.001,
          "bos_token_id": 100000, "eos_token_id": 100001, "first_k_dense_replace": 1, "hidden_act": "silu",
          "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 10944, "kv_lora_rank": 512,
          "max_position_embeddings": 163840, "model_type": "deepseek_v2", "moe_intermediate_size": 1408,
          "moe_layer_freq": 1, "n_group": 1, "n_routed_experts": 64, "n_shared_experts": 2, "norm_topk_prob": false,
          "num_attention_heads": 16, "num_experts_per_tok": 6, "num_hidden_layers": 27, "num_key_value_heads": 16,
          "pretraining_tp": 1, "q_lora_rank": null, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
          "rms_norm_eps": 1e-06,
          "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 0.707, "mscale_all_dim": 0.707,
            "original_max_position_embeddings": 4096, "type": "yarn"},
          "rope_theta": 10000, "routed_scaling_factor": 1.0, "scoring_func": "softmax", "seq_aux": true,
          "tie_word_embeddings": false, "topk_group": 1, "topk_method": "greedy", "torch_dtype": "bfloat16",
          "transformers_version": "4.33.1", "use_cache": true, "v_head_dim": 128, "vocab_size": 102400
        }
        """;

    [Fact]
    public void The_released_V2_Lite_config_is_the_16b_preset()
    {
        ModelConfig config = ModelConfig.Parse(V2LiteJson, "v2-lite");
        Assert.Empty(config.Validate());
        Assert.Equal(ModelPresets.Get("16b"), config);
        Assert.False(config.HasRoutingBias);
        Assert.Equal(new RoutingShape(64, 6, 1, 1, true, false, false, 1), config.Routing);
    }

    [Fact]
    public void A_round_trip_keeps_every_key_value_and_place()
    {
        string written = ModelConfig.Parse(V2LiteJson, "v2-lite").ToJson();
        Assert.Equal(JsonNode.Parse(V2LiteJson)!.ToJsonString(), JsonNode.Parse(written)!.ToJsonString());
    }

    [Fact]
    public void A_changed_key_is_the_only_difference()
    {
        ModelConfig changed = ModelConfig.Parse(V2LiteJson, "v2-lite") with { NumHiddenLayers = 3, AuxLossAlpha = null };
        JsonObject expected = JsonNode.Parse(V2LiteJson)!.AsObject();
        expected["num_hidden_layers"] = 3;
        expected.Remove("aux_loss_alpha");
        Assert.Equal(expected.ToJsonString(), JsonNode.Parse(changed.ToJson())!.ToJsonString());
    }

    [Theory]
    [InlineData("tiny")]
    [InlineData("docs-26m")]
    [InlineData("3b")]
    [InlineData("16b")]
    [InlineData("671b")]
    public void A_config_made_in_code_survives_a_round_trip(string preset)
    {
        ModelConfig config = ModelPresets.Get(preset);
        Assert.Equal(config, ModelConfig.Parse(config.ToJson(), preset));
    }

    [Fact]
    public void Nulls_and_absent_keys_take_the_familys_defaults()
    {
        JsonObject json = JsonNode.Parse(V2LiteJson)!.AsObject();
        foreach (string key in (string[])["n_group", "topk_group", "rope_scaling", "aux_loss_alpha"])
        {
            json[key] = null;
        }

        foreach (string key in (string[])["scoring_func", "topk_method", "norm_topk_prob", "num_key_value_heads"])
        {
            json.Remove(key);
        }

        ModelConfig config = ModelConfig.Parse(json.ToJsonString(), "v2");
        Assert.Empty(config.Validate());
        Assert.Equal((1, 1), (config.NGroup, config.TopkGroup));
        Assert.Equal(("softmax", "greedy", false), (config.ScoringFunc, config.TopkMethod, config.NormTopkProb));
        Assert.Equal(16, config.NumKeyValueHeads);
        Assert.Null(config.RopeScaling);
        Assert.Null(config.QLoraRank);
        Assert.Equal(1e-4, config.SequenceBalanceAlpha);
        Assert.Equal(json.ToJsonString(), JsonNode.Parse(config.ToJson())!.ToJsonString());
    }

    [Fact]
    public void Newer_spellings_are_read_and_written_back()
    {
        JsonObject json = JsonNode.Parse(V2LiteJson)!.AsObject();
        JsonObject rope = json["rope_scaling"]!.DeepClone().AsObject();
        rope.Remove("type");
        rope["rope_type"] = "yarn";
        rope["rope_theta"] = 5000;
        json.Remove("rope_scaling");
        json.Remove("rope_theta");
        json["rope_parameters"] = rope;
        json.Remove("torch_dtype");
        json["dtype"] = "float32";
        json["eos_token_id"] = new JsonArray(7, 8);
        ModelConfig config = ModelConfig.Parse(json.ToJsonString(), "new");
        Assert.Empty(config.Validate());
        Assert.Equal((5000, "float32", 7), (config.RopeTheta, config.TorchDtype, config.EosTokenId));
        Assert.Equal(ModelPresets.Get("16b").RopeScaling, config.RopeScaling);
        Assert.Equal(json.ToJsonString(), JsonNode.Parse(config.ToJson())!.ToJsonString());

        JsonObject changed = JsonNode.Parse((config with { RopeTheta = 9000, TorchDtype = "bfloat16" }).ToJson())!.AsObject();
        Assert.Equal(9000, (double)changed["rope_parameters"]!["rope_theta"]!);
        Assert.Equal("bfloat16", (string)changed["dtype"]!);
        Assert.False(changed.ContainsKey("rope_scaling") || changed.ContainsKey("torch_dtype"));
        Assert.Equal("default", (string)JsonNode.Parse((config with { RopeScaling = null }).ToJson())!["rope_parameters"]!["rope_type"]!);
    }

    [Fact]
    public void A_default_rope_type_is_no_scaling()
    {
        JsonObject json = JsonNode.Parse(V2LiteJson)!.AsObject();
        json["rope_scaling"] = new JsonObject { ["rope_type"] = "default" };
        Assert.Null(ModelConfig.Parse(json.ToJsonString(), "x").RopeScaling);
        json["rope_scaling"] = new JsonObject { ["rope_type"] = "linear", ["factor"] = 2 };
        Assert.Contains("'linear'", Assert.Single(ModelConfig.Parse(json.ToJsonString(), "x").Validate()));
    }

    [Fact]
    public void Softmax_scales_are_those_of_the_reference()
    {
        Assert.Equal(0.1352338f, ModelPresets.Get("671b").SoftmaxScale, 1e-7f);
        Assert.Equal(1.368888, ModelPresets.Get("671b").RopeScaling!.SoftmaxMscale, 1e-6);
        Assert.Equal(1.0, ModelPresets.Get("671b").RopeScaling!.RotaryMultiplier);
        Assert.Equal(1 / MathF.Sqrt(48), ModelPresets.Get("tiny").SoftmaxScale);
    }

    [Fact]
    public void Mtp_layers_are_moe_layers()
    {
        ModelConfig config = ModelPresets.Get("671b");
        Assert.Equal([false, false, false, true], Enumerable.Range(0, 4).Select(config.IsMoeLayer));
        Assert.True(config.IsMoeLayer(61));
        Assert.Equal(62, config.TotalLayers);
        ModelConfig allDense = config with { FirstKDenseReplace = 61 };
        Assert.False(allDense.IsMoeLayer(60));
        Assert.True(allDense.IsMoeLayer(61));
        Assert.False((config with { NRoutedExperts = 0 }).IsMoeLayer(61));
    }

    [Theory]
    [InlineData("group_limited_greedy", "softmax", false, 8)]
    [InlineData("noaux_tc", "sigmoid", true, 8)]
    [InlineData("greedy", "softmax", false, 1)]
    public void Routing_follows_the_method(string method, string scoring, bool topTwo, int groups)
    {
        ModelConfig config = ModelPresets.Get("671b") with { TopkMethod = method, ScoringFunc = scoring };
        Assert.Empty(config.Validate());
        Assert.Equal(topTwo, config.Routing.GroupByTopTwo);
        Assert.Equal(groups, config.Routing.Groups);
        Assert.Equal(topTwo, config.HasRoutingBias);
    }

    [Fact]
    public void Mtp_prev_hidden_defaults_to_pre_norm()
    {
        Assert.False((ModelPresets.Get("docs-26m") with { MtpPrevHidden = null }).MtpUsesPostNorm);
        Assert.True(ModelPresets.Get("docs-26m").MtpUsesPostNorm);
    }

    [Theory]
    [InlineData("{", "not valid JSON")]
    [InlineData("[1]", "a JSON object is wanted")]
    [InlineData("{}", "no model_type")]
    [InlineData("""{"model_type": 3}""", "no model_type")]
    [InlineData("""{"model_type": "llama"}""", "'llama' is not supported")]
    [InlineData("""{"model_type": "deepseek_v3", "hidden_size": "big"}""", "'hidden_size' holds \"big\"")]
    [InlineData("""{"model_type": "deepseek_v3", "hidden_size": 1.5}""", "'hidden_size' holds 1.5")]
    [InlineData("""{"model_type": "deepseek_v3", "rope_scaling": {"factor": "x"}}""", "'rope_scaling.factor' holds \"x\"")]
    [InlineData("""{"model_type": "deepseek_v3", "rope_scaling": 4}""", "'rope_scaling' holds 4")]
    [InlineData("""{"model_type": "deepseek_v3", "model_type": "deepseek_v3"}""", "not valid JSON")]
    public void Bad_text_gives_one_line(string json, string expected)
    {
        KreweException exception = Assert.Throws<KreweException>(() => ModelConfig.Parse(json, "somewhere"));
        Assert.StartsWith("somewhere: ", exception.Message);
        Assert.Contains(expected, exception.Message);
        Assert.DoesNotContain("\n", exception.Message);
    }

    [Fact]
    public void A_missing_file_gives_one_line()
    {
        using TemporaryFolder folder = new();
        Assert.Contains("no such file", Assert.Throws<KreweException>(() => ModelConfig.Load(folder["none.json"])).Message);
        Assert.Contains("config.json", Assert.Throws<KreweException>(() => ModelConfig.Load(folder.Path)).Message);
    }

    [Fact]
    public void Save_and_Load_take_a_folder_or_a_file()
    {
        using TemporaryFolder folder = new();
        ModelConfig config = ModelPresets.Get("tiny");
        config.Save(folder.Path);
        Assert.Equal(config, ModelConfig.Load(folder.Path));
        Assert.Equal(config, ModelConfig.Load(folder["config.json"]));
        Assert.Throws<KreweException>(() => config.Save(folder["no/such/config.json"]));
    }

    [Fact]
    public void Shared_configs_are_sound_and_docs_26m_is_the_preset()
    {
        string? shared = TestData.SharedFolder();
        Assert.SkipWhen(shared is null, "the folder 'shared' is not beside the repository; set KREWE_SHARED");
        foreach (string name in (string[])["base", "base_fp8", "yarn", "mtp2"])
        {
            Assert.Empty(ModelConfig.Load(Path.Combine(shared!, "golden", name)).Validate());
        }

        Assert.Equal(ModelPresets.Get("docs-26m"), ModelConfig.Load(Path.Combine(shared!, "checkpoints", "docs-26m")));
    }
}
