using Krewe.Gpu.Devices;
using Krewe.Gpu.Kernels;
using Krewe.Gpu.Kernels.MatrixProduct;
using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Xunit;

namespace Krewe.Gpu.Tests.Kernels.MatrixProduct;

/// <summary>
/// Every variant of <see cref="Fp8ProductVariant.OfTraining"/> on the ranges that a dispatch of the device makes, against
/// the exact kernel.
/// </summary>
public sealed class Fp8ExpertProductsTests : ExpertProducts
{
    /// <summary>Relative difference of squares: that of the contract.</summary>
    private const double Difference = 1e-6;

    /// <summary>Bound of a single value: tensor cores keep some 14 bits of the sum of a block.</summary>
    private const double Tolerance = 1e-2;

    private static readonly TileFormat _rowTiles = new(DType.Float8E4M3, 1, 128);
    private static readonly TileFormat _blockTiles = new(DType.Float8E4M3, 128, 128);

    private readonly CudaDevice _exact = Card.Device(ProductPath.Exact);

    private int Multiprocessors => Fast.Context.Multiprocessors;

    [Theory]
    [InlineData(256, 4)]
    [InlineData(128, 6)]
    public async Task Forward(int tileRows, int stages)
    {
        ExpertSizes sizes = SizesOf(ProductForm.Forward, tileRows, Multiprocessors);
        (DispatchTable table, int[] loads) = await PlanAsync(sizes.Tokens, sizes.Experts);
        QuantizedTensor input = await QuantizedAsync(sizes.Tokens, ExpertSizes.Depth, _rowTiles);
        QuantizedTensor[] weights = await WeightsAsync(2 * sizes.Experts, sizes.Columns, ExpertSizes.Depth);
        var shape = new TensorShape(table.Count, sizes.Columns);
        await CompareAsync([shape, shape], [], (kernels, results, ranges) =>
        {
            kernels.GroupedScaledLinear(
            [
                .. from rows in ExpertRows.Each(table, loads, ranges)
                   from i in (int[])[0, 1]
                   select new ScaledProduct(
                       input, weights[2 * rows.Expert + i], rows.Of(results[i]), rows.Tokens, Range: rows.Range),
            ]);
            AssertTaken(kernels, tileRows, stages, rowScales: false, ranges);
        });
    }

    /// <summary>Of the gate projections, and added to them those of the up projections.</summary>
    [Theory]
    [InlineData(256, 4)]
    [InlineData(128, 6)]
    public async Task Backward_input(int tileRows, int stages)
    {
        ExpertSizes sizes = SizesOf(ProductForm.BackwardInput, tileRows, Multiprocessors);
        (DispatchTable table, int[] loads) = await PlanAsync(sizes.Tokens, sizes.Experts);
        QuantizedTensor[] gradients =
        [
            await QuantizedAsync(table.Count, ExpertSizes.Depth, _rowTiles),
            await QuantizedAsync(table.Count, ExpertSizes.Depth, _rowTiles),
        ];
        QuantizedTensor[] weights = await WeightsAsync(2 * sizes.Experts, sizes.Columns, ExpertSizes.Depth);
        await CompareAsync([new(table.Count, sizes.Columns)], [], (kernels, results, ranges) =>
        {
            for (int i = 0; i < 2; i++)
            {
                kernels.GroupedScaledLinear(
                [
                    .. from rows in ExpertRows.Each(table, loads, ranges)
                       select new ScaledProduct(
                           rows.Of(gradients[i]), weights[2 * rows.Expert + i], rows.Of(results[0]),
                           Accumulate: i == 1, Range: rows.Range),
                ]);
                AssertTaken(kernels, tileRows, stages, rowScales: false, ranges);
            }
        });
    }

    /// <summary>Sums over the columns that each expert has of matrices turned along the tokens.</summary>
    [Theory]
    [InlineData(256, 4)]
    [InlineData(128, 5)]
    public async Task Backward_weight(int tileRows, int stages)
    {
        ExpertSizes sizes = SizesOf(ProductForm.BackwardWeight, tileRows, Multiprocessors);
        (DispatchTable table, int[] loads) = await PlanAsync(sizes.Tokens, sizes.Experts);
        Turned input = await TurnedAsync(sizes.Tokens, sizes.Columns, table, loads, gathers: true);
        Turned[] gradients =
        [
            await TurnedAsync(table.Count, sizes.Rows, table, loads, gathers: false),
            await TurnedAsync(table.Count, sizes.Rows, table, loads, gathers: false),
        ];
        Tensor start = await NormalAsync(2 * sizes.Experts * sizes.Rows, sizes.Columns);
        await CompareAsync([start.Shape], [start], (kernels, results, ranges) =>
        {
            kernels.GroupedScaledLinear(
            [
                .. from expert in Enumerable.Range(0, sizes.Experts)
                   from i in (int[])[0, 1]
                   let output = results[0].SliceRows((2 * expert + i) * sizes.Rows, sizes.Rows)
                   where ranges || loads[expert] > 0
                   select ranges
                       ? new ScaledProduct(
                           gradients[i].All, input.All, output, Accumulate: true, Depth: table.ColumnsOf(expert))
                       : new ScaledProduct(
                           gradients[i].Own[expert], input.Own[expert], output, Accumulate: true),
            ]);
            AssertTaken(kernels, tileRows, stages, rowScales: true, ranges);
        });
    }

    /// <summary>Sizes for this form and tile on a card of so many multiprocessors, which work in pairs.</summary>
    internal static ExpertSizes SizesOf(ProductForm form, int tileRows, int multiprocessors) =>
        ExpertSizes.Of(form, tileRows, multiprocessors / 2, 256);

    /// <summary>Only ranges say which variant they take; parts that the host cuts out may take another.</summary>
    private void AssertTaken(IKernels kernels, int tileRows, int stages, bool rowScales, bool ranges)
    {
        if (ranges && kernels == Fast.Kernels)
        {
            Assert.Equal(
                new(Fp8ProductKind.Separate, Fp8ProductOutput.Float32, tileRows, 128, stages, rowScales),
                ((CudaKernels)kernels).LastFp8Variant);
        }
    }

    private async Task<QuantizedTensor> QuantizedAsync(int rows, int columns, TileFormat format)
    {
        Tensor source = await NormalAsync(rows, columns);
        QuantizedTensor result = QuantizedTensor.Allocate(Arena, rows, columns, format);
        await Fast.SubmitAsync(kernels => kernels.Quantize(source, default, result, default));
        return result;
    }

    private async Task<QuantizedTensor[]> WeightsAsync(int count, int rows, int columns)
    {
        var weights = new QuantizedTensor[count];
        for (int i = 0; i < count; i++)
        {
            weights[i] = await QuantizedAsync(rows, columns, _blockTiles);
        }

        return weights;
    }

    /// <summary>Rows of tokens or assignments turned along the tokens of each expert.</summary>
    private async Task<Turned> TurnedAsync(int rows, int columns, DispatchTable table, int[] loads, bool gathers)
    {
        Tensor source = await NormalAsync(rows, columns);
        var all = QuantizedTensor.Allocate(Arena, columns, table.TurnedColumns, _rowTiles);
        QuantizedTensor[] own = Array.ConvertAll(
            loads, load => QuantizedTensor.Allocate(Arena, columns, load, _rowTiles));
        await Fast.SubmitAsync(kernels =>
        {
            kernels.QuantizeExperts(source, table, gathers, default, all);
            foreach (ExpertRows expert in ExpertRows.Each(table, loads, ranges: false).Where(rows => rows.Count > 0))
            {
                kernels.Quantize(
                    gathers ? source : expert.Of(source), gathers ? expert.Tokens : default, default,
                    own[expert.Expert]);
            }
        });
        return new(all, own);
    }

    private async Task CompareAsync(TensorShape[] shapes, Tensor[] start, Action<IKernels, Tensor[], bool> multiply)
    {
        Task<Tensor[]> Run(IDevice device, bool ranges) =>
            RunAsync(device, shapes, start, (kernels, results) => multiply(kernels, results, ranges));
        AssertAgree(
            await Run(_exact, true), await Run(Fast, true), await Run(Fast, true), await Run(Fast, false),
            Tolerance, Difference);
    }

    /// <summary>Matrices turned along the tokens.</summary>
    /// <param name="All">One of all experts, each from a multiple of 128 columns on.</param>
    /// <param name="Own">One of each expert.</param>
    private sealed record Turned(QuantizedTensor All, QuantizedTensor[] Own);
}
