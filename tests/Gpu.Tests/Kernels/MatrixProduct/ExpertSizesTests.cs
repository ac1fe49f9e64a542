using Krewe.Gpu.Kernels.MatrixProduct;
using Xunit;

namespace Krewe.Gpu.Tests.Kernels.MatrixProduct;

/// <summary>
/// The tests of experts' products reach every variant of training: the choice for their sizes on cards of compute
/// capability 9.0. Needs no card.
/// </summary>
public sealed class ExpertSizesTests
{
    [Theory]
    [InlineData(114)]
    [InlineData(132)]
    [InlineData(144)]
    public void Every_bfloat16_variant_of_training_is_chosen(int multiprocessors)
    {
        foreach (BFloat16ProductVariant variant in BFloat16ProductVariant.OfTraining)
        {
            ExpertSizes sizes = BFloat16ExpertProductsTests.SizesOf(variant.Form, variant.TileRows, multiprocessors);
            DeviceTensorProduct[] products = new DeviceTensorProduct[ProductsOf(variant.Form, sizes)];
            Array.Fill(products, new(0, 0, 0, 0, sizes.Rows, sizes.Columns, ExpertSizes.Depth, 0, 0, 0));
            Assert.Equal(
                variant, BFloat16ProductVariant.Choose(variant.Form, variant.Accumulate, products, multiprocessors));
        }
    }

    [Theory]
    [InlineData(114)]
    [InlineData(132)]
    [InlineData(144)]
    public void Every_fp8_variant_of_training_is_chosen(int multiprocessors)
    {
        foreach (Fp8ProductVariant variant in Fp8ProductVariant.OfTraining)
        {
            foreach (ProductForm form in variant.RowScales
                ? [ProductForm.BackwardWeight]
                : (ProductForm[])[ProductForm.Forward, ProductForm.BackwardInput])
            {
                ExpertSizes sizes = Fp8ExpertProductsTests.SizesOf(form, variant.TileRows, multiprocessors);
                Assert.Equal(
                    variant,
                    Fp8ProductVariant.Choose(
                        variant.Kind, variant.Output, variant.RowScales, ProductsOf(form, sizes), sizes.Rows,
                        sizes.Columns, multiprocessors));
            }
        }
    }

    private static int ProductsOf(ProductForm form, ExpertSizes sizes) =>
        form == ProductForm.BackwardInput ? sizes.Experts : 2 * sizes.Experts;
}
