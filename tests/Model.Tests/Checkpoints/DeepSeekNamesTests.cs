using Krewe.Model.Checkpoints;
using Krewe.Model.Configuration;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Checkpoints;

public sealed class DeepSeekNamesTests
{
    [Theory]
    [InlineData("golden/base")]
    [InlineData("golden/yarn")]
    [InlineData("golden/mtp2")]
    [InlineData("checkpoints/docs-26m")]
    public void Names_and_shapes_are_those_of_reference_checkpoints(string folder)
    {
        string? shared = TestData.SharedFolder();
        Assert.SkipWhen(shared is null, "the folder 'shared' is not beside the repository; set KREWE_SHARED");
        using CheckpointReader reader = CheckpointReader.Open(Path.Combine(shared!, folder));
        AssertComplete(reader);
    }

    [Fact]
    public void Names_and_shapes_are_those_of_the_fp8_checkpoint()
    {
        using CheckpointReader reader = CheckpointReader.Open(Path.Combine(TestData.GoldenFolder, "base_fp8"));
        AssertComplete(reader);
    }

    [Fact]
    public void The_order_is_embedding_layers_norm_head_mtp()
    {
        TensorSpec[] specs = [.. DeepSeekNames.Enumerate(ModelPresets.Get("tiny"))];
        Assert.Equal(DeepSeekNames.EmbedTokens, specs[0].Name);
        Assert.Equal([-1, 0, 1, 2, 3, -1, 4], specs.Select(spec => spec.Layer).Where((layer, i) => i == 0 || specs[i - 1].Layer != layer));
        int norm = Array.FindIndex(specs, spec => spec.Name == DeepSeekNames.Norm);
        Assert.Equal(DeepSeekNames.LmHead, specs[norm + 1].Name);
        Assert.Equal(DeepSeekNames.Layer(4).Enorm, specs[norm + 2].Name);
        Assert.Equal(specs.Length, specs.Select(spec => spec.Name).Distinct().Count());
        Assert.Equal(
            [DeepSeekNames.EmbedTokens, DeepSeekNames.LmHead],
            specs.Where(spec => spec.Role == TensorRole.Duplicate).Select(spec => spec.Source));
    }

    [Fact]
    public void Only_noaux_tc_has_a_bias_and_only_a_query_latent_its_norm()
    {
        Assert.Equal(58 + 1, DeepSeekNames.Enumerate(ModelPresets.Get("671b")).Count(spec => spec.Role == TensorRole.RouterBias));
        TensorSpec[] lite = [.. DeepSeekNames.Enumerate(ModelPresets.Get("16b"))];
        Assert.DoesNotContain(lite, spec => spec.Role == TensorRole.RouterBias);
        Assert.Contains(lite, spec => spec.Name == "model.layers.0.self_attn.q_proj.weight");
        Assert.DoesNotContain(lite, spec => spec.Name.Contains("q_a_"));
    }

    [Theory]
    [InlineData("model.layers.3.mlp.experts.7.down_proj.weight", true)]
    [InlineData("model.layers.3.mlp.shared_experts.up_proj.weight", true)]
    [InlineData("model.layers.0.mlp.gate_proj.weight", true)]
    [InlineData("model.layers.0.self_attn.kv_a_proj_with_mqa.weight", true)]
    [InlineData("model.layers.0.self_attn.q_b_proj.weight", true)]
    [InlineData("model.layers.61.eh_proj.weight", false)]
    [InlineData("model.layers.3.mlp.gate.weight", false)]
    [InlineData("model.layers.3.mlp.gate.e_score_correction_bias", false)]
    [InlineData("model.layers.3.self_attn.kv_a_layernorm.weight", false)]
    [InlineData("model.embed_tokens.weight", false)]
    [InlineData("lm_head.weight", false)]
    public void Released_checkpoints_keep_projections_in_fp8(string name, bool expected) =>
        Assert.Equal(expected, DeepSeekNames.IsReleasedFp8(name));

    private static void AssertComplete(CheckpointReader reader)
    {
        Assert.Empty(reader.CheckUp(reader.Config).Unexpected);
        Assert.All(
            DeepSeekNames.Enumerate(reader.Config).Where(spec => spec.Source is null),
            spec => Assert.True(reader.Contains(spec.Name), spec.Name));
    }
}
