using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Xunit;

namespace Krewe.Model.Tests.Precision;

/// <summary>The recipes as the report and the released checkpoints have them.</summary>
public sealed class PrecisionRecipeTests
{
    [Fact]
    public void Fp32_rounds_nothing()
    {
        PrecisionRecipe recipe = PrecisionRecipe.Get("fp32");
        Assert.Equal(new PrecisionRecipe { Name = "fp32" }, recipe);
        Assert.Equal(DType.Float32, recipe.Linear.Operand);
    }

    [Fact]
    public void Fp8_is_the_reports()
    {
        PrecisionRecipe recipe = PrecisionRecipe.Get("fp8");
        Assert.Equal(new(DType.Float8E4M3, 1, 128, SmallestMax: 1e-4f), recipe.Linear.Activation);
        Assert.Equal(new(DType.Float8E4M3, 1, 128), recipe.Linear.Gradient);
        Assert.Equal(new(DType.Float8E4M3, 128, 128), recipe.Linear.Weight);
        Assert.True(recipe.AttentionOutput.Activation.PowerOfTwo && recipe.Experts.Activation.PowerOfTwo);
        Assert.Equal(new TileFormat(DType.Float12E5M6, 1, 128, PowerOfTwo: true), recipe.AttentionCache);
        Assert.Equal(DType.BFloat16, recipe.MtpProjection.Operand);
        Assert.Equal(DType.BFloat16, recipe.Head.Operand);
        Assert.Equal(DType.BFloat16, recipe.Combine);
        Assert.Equal(DType.BFloat16, recipe.Moments);
    }

    [Fact]
    public void Microscaling_has_a_power_of_two_per_32_along_every_inner_dimension()
    {
        PrecisionRecipe recipe = PrecisionRecipe.Get("mxfp8");
        var micro = new TileFormat(DType.Float8E4M3, 1, 32, PowerOfTwo: true);
        foreach (ProductPrecision product in (ProductPrecision[])[recipe.Linear, recipe.AttentionOutput, recipe.Experts])
        {
            Assert.Equal(micro, product.Activation);
            Assert.Equal(micro, product.Gradient);
            Assert.Equal(micro, product.Weight);
            Assert.False(product.RetilesCached);
        }
    }

    [Fact]
    public void An_unknown_name_is_refused_with_those_that_there_are()
    {
        KreweException exception = Assert.Throws<KreweException>(() => PrecisionRecipe.Get("fp4"));
        Assert.Contains("no precision 'fp4': choose fp32, bf16, fp8, mxfp8", exception.Message);
    }
}
