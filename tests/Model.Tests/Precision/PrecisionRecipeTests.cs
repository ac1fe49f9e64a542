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

    [Fact]
    public void Parts_come_from_other_recipes_and_the_rest_stays()
    {
        PrecisionRecipe recipe = PrecisionRecipe.Get("fp8:swiglu-cache=bf16,experts=mxfp8");
        Assert.Equal(
            PrecisionRecipe.Fp8 with
            {
                Name = "fp8:experts=mxfp8,swiglu-cache=bf16",
                Experts = PrecisionRecipe.MxFp8.Experts,
                SwiGluCache = null,
            },
            recipe);
        Assert.Equal(recipe, PrecisionRecipe.Get(recipe.Name));
    }

    [Fact]
    public void Every_part_can_be_taken_and_all_of_them_make_the_other_recipe()
    {
        string name = "fp32:" + string.Join(',', PrecisionRecipe.Parts.Select(part => part + "=mxfp8"));
        Assert.Equal(PrecisionRecipe.MxFp8 with { Name = name }, PrecisionRecipe.Get(name));
    }

    [Theory]
    [InlineData("fp4:head=fp32", "no precision 'fp4' (of 'fp4:head=fp32'): choose fp32, bf16, fp8, mxfp8")]
    [InlineData("fp8:head=fp4", "no precision 'fp4' (of 'fp8:head=fp4'): choose fp32, bf16, fp8, mxfp8")]
    [InlineData("fp8:tail=fp32", "'tail=fp32' is no PART=NAME with a part of linear, attention,")]
    [InlineData("fp8:", "'' is no PART=NAME")]
    [InlineData("fp8:head", "'head' is no PART=NAME")]
    [InlineData("fp8:head=fp32,head=bf16", "takes head twice")]
    public void A_wrong_part_is_named(string name, string message)
    {
        KreweException exception = Assert.Throws<KreweException>(() => PrecisionRecipe.Get(name));
        Assert.Contains(message, exception.Message, StringComparison.Ordinal);
    }
}
