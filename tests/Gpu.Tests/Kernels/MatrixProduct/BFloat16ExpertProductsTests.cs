using Krewe.Gpu.Kernels;
using Krewe.Gpu.Kernels.MatrixProduct;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Gpu.Tests.Kernels.MatrixProduct;

/// <summary>
/// Every variant of <see cref="BFloat16ProductVariant.OfTraining"/> on the ranges that a dispatch of the device makes,
/// against float32 products of the same values, which are exact.
/// </summary>
public sealed class BFloat16ExpertProductsTests : ExpertProducts
{
    /// <summary>Relative difference of squares; a lost tile of a hundred would be 1e-2.</summary>
    private const double Difference = 1e-9;

    private static readonly double _tolerance = TensorAssert.Tolerance(DType.Float32);

    private int Multiprocessors => Fast.Context.Multiprocessors;

    [Theory]
    [InlineData(256)]
    [InlineData(128)]
    public async Task Forward(int tileRows)
    {
        ExpertSizes sizes = SizesOf(ProductForm.Forward, tileRows, Multiprocessors);
        (DispatchTable table, int[] loads) = await PlanAsync(sizes.Tokens, sizes.Experts);
        (Tensor input, Tensor wideInput) = await RoundedAsync(sizes.Tokens, ExpertSizes.Depth);
        (Tensor weights, Tensor wideWeights) =
            await RoundedAsync(2 * sizes.Experts * sizes.Columns, ExpertSizes.Depth);
        var shape = new TensorShape(table.Count, sizes.Columns);
        await CompareAsync([shape, shape], [], (kernels, results, ranges, wide) =>
        {
            kernels.GroupedLinear(
            [
                .. from rows in ExpertRows.Each(table, loads, ranges)
                   from i in (int[])[0, 1]
                   select new GroupedProduct(
                       wide ? wideInput : input,
                       (wide ? wideWeights : weights).SliceRows((2 * rows.Expert + i) * sizes.Columns, sizes.Columns),
                       rows.Of(results[i]), rows.Tokens, Range: rows.Range),
            ]);
            AssertTaken(kernels, new(ProductForm.Forward, false, tileRows, 128, tileRows == 256 ? 4 : 6), ranges, wide);
        });
    }

    /// <summary>Of the gate projections, and added to them those of the up projections.</summary>
    [Theory]
    [InlineData(256)]
    [InlineData(128)]
    public async Task Backward_input(int tileRows)
    {
        ExpertSizes sizes = SizesOf(ProductForm.BackwardInput, tileRows, Multiprocessors);
        (DispatchTable table, int[] loads) = await PlanAsync(sizes.Tokens, sizes.Experts);
        (Tensor Rounded, Tensor Wide)[] gradients =
            [await RoundedAsync(table.Count, ExpertSizes.Depth), await RoundedAsync(table.Count, ExpertSizes.Depth)];
        (Tensor weights, Tensor wideWeights) =
            await RoundedAsync(2 * sizes.Experts * ExpertSizes.Depth, sizes.Columns);
        await CompareAsync([new(table.Count, sizes.Columns)], [], (kernels, results, ranges, wide) =>
        {
            for (int i = 0; i < 2; i++)
            {
                Tensor gradient = wide ? gradients[i].Wide : gradients[i].Rounded;
                bool adds = i == 1;
                kernels.GroupedLinearBackwardInput(
                [
                    .. from rows in ExpertRows.Each(table, loads, ranges)
                       select new GroupedProduct(
                           rows.Of(gradient),
                           (wide ? wideWeights : weights)
                               .SliceRows((2 * rows.Expert + i) * ExpertSizes.Depth, ExpertSizes.Depth),
                           rows.Of(results[0]), Accumulate: adds, Range: rows.Range),
                ]);
                AssertTaken(
                    kernels, new(ProductForm.BackwardInput, adds, tileRows, 128, tileRows == 256 ? 4 : 6), ranges, wide);
            }
        });
    }

    [Theory]
    [InlineData(256)]
    [InlineData(128)]
    public async Task Backward_weight(int tileRows)
    {
        ExpertSizes sizes = SizesOf(ProductForm.BackwardWeight, tileRows, Multiprocessors);
        (DispatchTable table, int[] loads) = await PlanAsync(sizes.Tokens, sizes.Experts);
        (Tensor input, Tensor wideInput) = await RoundedAsync(sizes.Tokens, sizes.Columns);
        (Tensor Rounded, Tensor Wide)[] gradients =
            [await RoundedAsync(table.Count, sizes.Rows), await RoundedAsync(table.Count, sizes.Rows)];
        Tensor start = await NormalAsync(2 * sizes.Experts * sizes.Rows, sizes.Columns);
        await CompareAsync([start.Shape], [start], (kernels, results, ranges, wide) =>
        {
            kernels.GroupedLinearBackwardWeight(
            [
                .. from rows in ExpertRows.Each(table, loads, ranges)
                   from i in (int[])[0, 1]
                   select new GroupedProduct(
                       wide ? wideInput : input,
                       results[0].SliceRows((2 * rows.Expert + i) * sizes.Rows, sizes.Rows),
                       rows.Of(wide ? gradients[i].Wide : gradients[i].Rounded), rows.Tokens, Range: rows.Range),
            ]);
            AssertTaken(
                kernels, new(ProductForm.BackwardWeight, true, tileRows, 128, tileRows == 256 ? 4 : 6), ranges, wide);
        });
    }

    /// <summary>Sizes for this form and tile on a card of so many multiprocessors.</summary>
    internal static ExpertSizes SizesOf(ProductForm form, int tileRows, int multiprocessors) =>
        ExpertSizes.Of(form, tileRows, multiprocessors, 128);

    /// <summary>Only ranges say which variant they take; parts that the host cuts out may take another.</summary>
    private static void AssertTaken(IKernels kernels, BFloat16ProductVariant variant, bool ranges, bool wide)
    {
        if (ranges && !wide)
        {
            Assert.Equal(variant, ((CudaKernels)kernels).LastBFloat16Variant);
        }
    }

    /// <summary>Values rounded to bfloat16, as such and widened again.</summary>
    private async Task<(Tensor Rounded, Tensor Wide)> RoundedAsync(int rows, int columns)
    {
        Tensor wide = await NormalAsync(rows, columns);
        Tensor rounded = Arena.Allocate(rows, columns, DType.BFloat16);
        await Fast.SubmitAsync(kernels =>
        {
            kernels.RoundToBFloat16(wide, rounded);
            kernels.RoundToBFloat16(wide, wide);
        });
        return (rounded, wide);
    }

    private async Task CompareAsync(
        TensorShape[] shapes, Tensor[] start, Action<IKernels, Tensor[], bool, bool> multiply)
    {
        Task<Tensor[]> Run(bool ranges, bool wide) =>
            RunAsync(Fast, shapes, start, (kernels, results) => multiply(kernels, results, ranges, wide));
        AssertAgree(
            await Run(true, wide: true), await Run(true, false), await Run(true, false), await Run(false, false),
            _tolerance, Difference);
    }
}
