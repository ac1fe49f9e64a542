using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.GpuSpeed;

/// <content>Quantisation and FP8 products. A rate in GB/s counts what must be read and written once.</content>
internal sealed partial class GpuCases
{
    private static readonly TileFormat RowTiles = new(DType.Float8E4M3, 1, 128);
    private static readonly TileFormat BlockTiles = new(DType.Float8E4M3, 128, 128);

    private async Task QuantizationAsync()
    {
        const int d = 7168;
        Tensor x = await NormalAsync(Tokens, d);
        Tensor g = await NormalAsync(Tokens, d);
        Tensor y = await NormalAsync(Tokens, d);
        Tensor w = (await NormalAsync(1, d)).Reshape(new(d));
        Tensor inverse = _arena.Allocate(Tokens);
        double count = (double)Tokens * d;
        QuantizedTensor rows = Empty(Tokens, d, RowTiles), turned = Empty(d, Tokens, RowTiles);
        QuantizedTensor blocks = Empty(Tokens, d, BlockTiles), turnedBlocks = Empty(d, Tokens, BlockTiles);
        QuantizedTensor micro = Empty(Tokens, d, new(DType.Float8E4M3, 1, 32, true));
        QuantizedTensor wide = Empty(Tokens, d, new(DType.Float12E5M6, 1, 128, true));
        Tensor gather = await IntsAsync(Tokens, i => (i * 1237) % Tokens);
        await CaseAsync(
            $"quantize {Tokens} x {d}, 1x128", 10, 5 * count, "GB/s", k => k.Quantize(x, default, rows, default));
        await CaseAsync("  gathered", 10, 5 * count, "GB/s", k => k.Quantize(x, gather, rows, default));
        await CaseAsync("  turned", 10, 5 * count, "GB/s", k => k.Quantize(x, default, default, turned));
        await CaseAsync("  both", 10, 6 * count, "GB/s", k => k.Quantize(x, default, rows, turned));
        await CaseAsync("  128x128, both", 10, 6 * count, "GB/s", k => k.Quantize(x, default, blocks, turnedBlocks));
        await CaseAsync("  1x32", 10, 5 * count, "GB/s", k => k.Quantize(x, default, micro, default));
        await CaseAsync("  E5M6, 1x128", 10, 6 * count, "GB/s", k => k.Quantize(x, default, wide, default));
        await CaseAsync("dequantize", 10, 5 * count, "GB/s", k => k.Dequantize(rows, y));
        await CaseAsync("round to bfloat16", 10, 8 * count, "GB/s", k => k.RoundToBFloat16(x, y));
        await CaseAsync(
            "swiglu, quantize both", 10, 10 * count, "GB/s",
            k =>
            {
                k.SwiGlu(x, g, y);
                k.Quantize(y, default, rows, turned);
            });
        await CaseAsync(
            "  fused", 10, 10 * count, "GB/s", k => k.SwiGluQuantize(x, g, y, rows, turned, keepsOutput: false));
        await CaseAsync(
            "rms norm, quantize", 10, 5 * count, "GB/s",
            k =>
            {
                k.RmsNorm(x, w, y, inverse, 1e-6f);
                k.Quantize(y, default, rows, default);
            });
        await CaseAsync(
            "  fused", 10, 5 * count, "GB/s",
            k => k.RmsNormQuantize(x, w, y, inverse, 1e-6f, rows, default, keepsOutput: false));
        _arena.Reset();
    }

    private async Task ScaledProductsAsync()
    {
        foreach ((int n, int d) in ((int, int)[])[(4096, 7168), (7168, 2048)])
        {
            QuantizedTensor x = await QuantizedAsync(8 * Tokens, d, RowTiles);
            Tensor y = _arena.Allocate(8 * Tokens, n);
            var weights = new QuantizedTensor[32];
            for (int i = 0; i < weights.Length; i++)
            {
                weights[i] = await QuantizedAsync(n, d, BlockTiles);
            }

            foreach (int m in (int[])[Tokens, 128, 64, 1])
            {
                QuantizedTensor input = x.SliceRows(0, m);
                int turn = 0;
                await CaseAsync(
                    $"fp8 linear {m} x {n} x {d}", 32, 2.0 * m * n * d, "GFLOP/s",
                    k => k.ScaledLinear(input, weights[turn++ % weights.Length], y.SliceRows(0, m)));
            }

            Tensor gather = await IntsAsync(8 * Tokens, i => (i * 1237) % (8 * Tokens));
            await GroupedAsync("  8 experts of 4096 rows", x, weights.AsSpan(0, 8), y, Tokens, default, 2);
            await GroupedAsync("  the same gathered", x, weights.AsSpan(0, 8), y, Tokens, gather, 2);
            await GroupedAsync("  32 experts of 128 rows", x, weights, y, 128, default, 8);
            _arena.Reset();
            QuantizedTensor gradOutput = await QuantizedAsync(n, Tokens, RowTiles);
            QuantizedTensor saved = await QuantizedAsync(d, Tokens, RowTiles);
            Tensor gradient = _arena.Allocate(n, d);
            await CaseAsync(
                $"  weight gradient of {Tokens} rows", 16, 2.0 * n * d * Tokens, "GFLOP/s",
                k => k.ScaledLinear(gradOutput, saved, gradient, accumulate: true));
            _arena.Reset();
        }
    }

    private Task GroupedAsync(
        string name, QuantizedTensor x, ReadOnlySpan<QuantizedTensor> weights, Tensor y, int rows, Tensor gather,
        int calls)
    {
        var products = new ScaledProduct[weights.Length];
        for (int i = 0; i < products.Length; i++)
        {
            int start = i * rows;
            products[i] = gather.IsEmpty
                ? new(x.SliceRows(start, rows), weights[i], y.SliceRows(start, rows))
                : new(
                    x, weights[i], y.SliceRows(start, rows),
                    new(gather.Address + (start * sizeof(int)), new TensorShape(rows), DType.Int32));
        }

        double work = 2.0 * products.Length * rows * y.Columns * x.Columns;
        return CaseAsync(name, calls, work, "GFLOP/s", k => k.GroupedScaledLinear(products));
    }

    private QuantizedTensor Empty(int rows, int columns, TileFormat format) =>
        QuantizedTensor.Allocate(_arena, rows, columns, format);

    private async Task<QuantizedTensor> QuantizedAsync(int rows, int columns, TileFormat format)
    {
        using Arena passing = device.CreateArena("benchmark source");
        Tensor source = passing.Allocate(rows, columns);
        Tensor host = _host.Allocate(128, columns);
        Randomize(host.AsSpan<float>());
        for (int row = 0; row < rows; row += host.Rows)
        {
            int count = Math.Min(host.Rows, rows - row);
            await device.CopyAsync(host.SliceRows(0, count), source.SliceRows(row, count));
        }

        _host.Reset();
        QuantizedTensor result = Empty(rows, columns, format);
        await device.SubmitAsync(k => k.Quantize(source, default, result, default));
        return result;
    }
}
