using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Kernels;

/// <content>What steps of decoding need: tokens handed on, and rows that do not depend on their number.</content>
public abstract unsafe partial class KernelContract
{
    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(300)]
    public void Tokens_are_handed_on(int sequences)
    {
        Data.Reset();
        int[] first = [.. Enumerable.Range(0, sequences).Select(s => (s * 7) + 3)];
        Tensor[] tensors =
        [
            Data.Ints(first), Data.Ints(new int[3 * sequences]).Reshape(new(3, sequences)), Data.Ints([1]),
            Data.Ints(new int[sequences]), Data.Ints([.. Enumerable.Range(0, sequences)]),
        ];
        Compare(
            "four steps, of which the history takes two", 0,
            (k, t) =>
            {
                for (int step = 0; step < 4; step++)
                {
                    k.AppendTokens(t[0], t[1], t[2], t[3], t[4]);
                }
            },
            tensors);
        Tensor[] result = RunOnDevice((k, t) => k.AppendTokens(t[0], t[1], t[2], t[3], t[4]), tensors);
        Assert.Equal(first, result[1].SliceRows(1, 1).AsSpan<int>().ToArray());
        Assert.Equal(new int[sequences], result[1].SliceRows(0, 1).AsSpan<int>().ToArray());
        Assert.Equal([2], result[2].AsSpan<int>().ToArray());
        Assert.Equal(first, result[3].AsSpan<int>().ToArray());
        Assert.Equal(Enumerable.Range(1, sequences), result[4].AsSpan<int>().ToArray());
    }

    [Fact]
    public void Tokens_of_other_sizes_are_rejected() => AssertRejected(
        "too few positions", (k, t) => k.AppendTokens(t[0], t[1], t[2], t[0], t[2]),
        Data.Ints([1, 2]), Data.Ints([0, 0, 0, 0]).Reshape(new(2, 2)), Data.Ints([0]));

    [Fact]
    public void A_scaled_products_rows_do_not_depend_on_their_number()
    {
        const int Rows = 97;
        foreach ((int n, int d) in (ReadOnlySpan<(int, int)>)[(64, 128), (132, 304), (200, 1024), (72, 2320), (576, 2048)])
        {
            Data.Reset();
            QuantizedTensor input = Quantized(Rows, d, _rowTiles), weight = Quantized(n, d, _blockTiles);
            Tensor[] tensors = [input.Codes, input.Scales, weight.Codes, weight.Scales, Data.Normal(Rows, n, gap: 4)];
            Tensor whole = RunOnDevice(
                (k, t) => k.ScaledLinear(new(t[0], t[1], _rowTiles), new(t[2], t[3], _blockTiles), t[4], true), tensors)[4];
            foreach (int each in (ReadOnlySpan<int>)[1, 3, 8, 20])
            {
                Tensor parts = RunOnDevice(
                    (k, t) =>
                    {
                        var all = new QuantizedTensor(t[0], t[1], _rowTiles);
                        for (int row = 0; row < Rows; row += each)
                        {
                            int count = Math.Min(each, Rows - row);
                            k.ScaledLinear(
                                all.SliceRows(row, count), new(t[2], t[3], _blockTiles), t[4].SliceRows(row, count), true);
                        }
                    },
                    tensors)[4];
                TensorAssert.Same(whole, parts, $"N={n} D={d}, {each} rows at a time");
            }
        }
    }

    [Theory]
    [InlineData(1, 6, 64)]
    [InlineData(5, 2, 9)]
    [InlineData(17, 4, 12)]
    public void Scaled_products_of_few_rows_of_experts_have_the_bits_of_each_alone(int tokens, int topK, int experts)
    {
        const int N = 200, D = 1408;
        Data.Reset();
        var random = new Random(5);
        int[] counts = new int[experts];
        for (int i = 0; i < tokens * topK; i++)
        {
            counts[random.Next(experts)]++;
        }

        int[] offsets = new int[experts + 1];
        for (int e = 0; e < experts; e++)
        {
            offsets[e + 1] = offsets[e] + counts[e];
        }

        int total = offsets[experts];
        QuantizedTensor input = Quantized(tokens, D, _rowTiles);
        QuantizedTensor[] weights = [.. counts.Select(_ => Quantized(N, D, _blockTiles))];
        Tensor[] tensors =
        [
            input.Codes, input.Scales, Data.RandomInts(total, 0, tokens), Data.Garbage(total, N), Data.Ints(offsets),
            .. weights.Select(w => w.Codes), .. weights.Select(w => w.Scales),
        ];
        Tensor together = RunOnDevice(
            (k, t) => k.GroupedScaledLinear([.. Enumerable.Range(0, experts).Select(e => new ScaledProduct(
                new(t[0], t[1], _rowTiles), new(t[5 + e], t[5 + experts + e], _blockTiles), t[3], t[2],
                Range: t[4].SliceElements(e, 2)))]),
            tensors)[3];
        Tensor alone = RunOnDevice(
            (k, t) =>
            {
                for (int e = 0; e < experts; e++)
                {
                    if (counts[e] > 0)
                    {
                        k.GroupedScaledLinear([new ScaledProduct(
                            new(t[0], t[1], _rowTiles), new(t[5 + e], t[5 + experts + e], _blockTiles),
                            t[3].SliceRows(offsets[e], counts[e]), t[2].SliceElements(offsets[e], counts[e]))]);
                    }
                }
            },
            tensors)[3];
        TensorAssert.Same(alone, together, "together against one by one");
    }

    [Theory]
    [InlineData(1, 2048)]
    [InlineData(3, 1408)]
    [InlineData(64, 576)]
    [InlineData(65, 576)]
    public void Producers_of_few_rows_have_the_bits_of_two_kernels(int rows, int columns)
    {
        Data.Reset();
        foreach (TileFormat format in (ReadOnlySpan<TileFormat>)
            [_rowTiles, _rowTiles with { PowerOfTwo = true }, _rowTiles with { Element = DType.Float12E5M6 }])
        {
            QuantizedTensor tiles = Quantized(rows, columns, format);
            Tensor[] tensors =
            [
                Data.Normal(rows, columns), Data.Normal(rows, columns), Data.NormalVector(columns), Data.Garbage(rows, columns),
                Data.NormalVector(rows), tiles.Codes, tiles.Scales,
            ];
            Tensor[] Run(Action<IKernels, Tensor[], QuantizedTensor> call) =>
                RunOnDevice((k, t) => call(k, t, new(t[5], t[6], format)), tensors);
            AssertSameTiles(
                $"RMSNorm {format}", Run((k, t, to) => k.RmsNormQuantize(t[0], t[2], t[3], t[4], 1e-6f, to, default)),
                Run((k, t, to) =>
                {
                    k.RmsNorm(t[0], t[2], t[3], t[4], 1e-6f);
                    k.Quantize(t[3], default, to, default);
                }));
            AssertSameTiles(
                $"SwiGLU {format}", Run((k, t, to) => k.SwiGluQuantize(t[0], t[1], t[3], to, default)),
                Run((k, t, to) =>
                {
                    k.SwiGlu(t[0], t[1], t[3]);
                    k.Quantize(t[3], default, to, default);
                }));
        }
    }

    private static void AssertSameTiles(string context, Tensor[] expected, Tensor[] actual)
    {
        for (int i = 3; i < expected.Length; i++)
        {
            TensorAssert.Same(expected[i], actual[i], $"{context}, tensor {i}");
        }
    }
}
