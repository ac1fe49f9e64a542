using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Kernels;

/// <content>Products of quantised matrices.</content>
public abstract unsafe partial class KernelContract
{
    /// <summary>
    /// Bound on the difference of scaled products, 1 - 2 sum(xy) / sum(x^2 + y^2), where the backend sums in an order of
    /// its own; 0 where it keeps the contract's and so the bits.
    /// </summary>
    protected virtual double ScaledProductDifference => 0;

    [Fact]
    public void Scaled_products_agree_over_all_shapes()
    {
        int turn = 0;
        foreach ((int m, int n, int d) in (ReadOnlySpan<(int, int, int)>)
            [
                (1, 1, 1), (1, 132, 300), (3, 33, 128), (17, 68, 129), (64, 256, 512), (100, 129, 31), (200, 40, 700),
                (12, 32, 256), (97, 128, 33), (0, 5, 7), (5, 8, 0), (5, 0, 7),
            ])
        {
            foreach ((TileFormat a, TileFormat b) in (ReadOnlySpan<(TileFormat, TileFormat)>)
                [(_rowTiles, _blockTiles), (_rowTiles, _rowTiles), (_microTiles, _microTiles),
                    (_rowTiles with { Element = DType.Float8E5M2 }, _blockTiles)])
            {
                Data.Reset();
                bool accumulate = turn++ % 2 == 1;
                QuantizedTensor input = Quantized(m, d, a), weight = Quantized(n, d, b);
                CompareScaledProducts(
                    $"M={m} N={n} D={d} {a} by {b} accumulate={accumulate}",
                    (k, t) => k.ScaledLinear(new(t[0], t[1], a), new(t[2], t[3], b), t[4], accumulate),
                    input.Codes, input.Scales, weight.Codes, weight.Scales,
                    accumulate ? Data.Normal(m, n, gap: 4) : Data.Garbage(m, n, gap: 4));
            }
        }
    }

    [Theory]
    [MemberData(nameof(Groups))]
    public void Grouped_scaled_products_agree(int[] counts)
    {
        const int N = 40, D = 200, Source = 50;
        int total = counts.Sum();
        Tensor rows = Data.RandomInts(total, 0, Source);
        QuantizedTensor input = Quantized(Source, D, _rowTiles);
        QuantizedTensor[] weights = [.. counts.Select(_ => Quantized(N, D, _blockTiles))];
        Tensor[] tensors =
        [
            input.Codes, input.Scales, rows, Data.Normal(total, N, gap: 4), .. weights.Select(w => w.Codes),
            .. weights.Select(w => w.Scales),
        ];
        CompareScaledProducts(
            $"groups {string.Join(',', counts)}",
            (k, t) =>
            {
                var items = new ScaledProduct[counts.Length];
                for (int g = 0, start = 0; g < items.Length; start += counts[g++])
                {
                    items[g] = new(
                        new(t[0], t[1], _rowTiles), new(t[4 + g], t[4 + counts.Length + g], _blockTiles),
                        t[3].SliceRows(start, counts[g]),
                        new(t[2].Address + (start * sizeof(int)), new TensorShape(counts[g]), DType.Int32), g % 2 == 1);
                }

                k.GroupedScaledLinear(items);
            },
            tensors);
    }

    [Theory]
    [MemberData(nameof(Groups))]
    public void Grouped_scaled_weight_gradients_agree(int[] counts)
    {
        const int N = 24, D = 140;
        QuantizedTensor[] gradients = [.. counts.Select(count => Quantized(N, 3 * count, _rowTiles))];
        QuantizedTensor[] inputs = [.. counts.Select(count => Quantized(D, 3 * count, _rowTiles))];
        Tensor[] tensors =
        [
            .. gradients.Select(g => g.Codes), .. gradients.Select(g => g.Scales), .. inputs.Select(x => x.Codes),
            .. inputs.Select(x => x.Scales), .. counts.Select(_ => Data.Normal(N, D)),
        ];
        CompareScaledProducts(
            $"groups {string.Join(',', counts)}",
            (k, t) =>
            {
                var items = new ScaledProduct[counts.Length];
                for (int g = 0; g < items.Length; g++)
                {
                    QuantizedTensor At(int list) => new(
                        t[(list * items.Length) + g], t[((list + 1) * items.Length) + g], _rowTiles);
                    items[g] = new(At(0), At(2), t[(4 * items.Length) + g], default, true);
                }

                k.GroupedScaledLinear(items);
            },
            tensors);
    }

    [Fact]
    public void Products_that_may_be_split_agree_and_do_not_depend_on_their_company()
    {
        (int M, int N, int D)[] sizes = [(24, 36, 9001), (140, 64, 6200), (8, 300, 3072), (5, 12, 100), (300, 8, 8192)];
        Data.Reset();
        QuantizedTensor[] inputs = [.. sizes.Select(size => Quantized(size.M, size.D, _rowTiles))];
        QuantizedTensor[] weights = [.. sizes.Select(size => Quantized(size.N, size.D, _rowTiles))];
        Tensor[] tensors =
        [
            .. inputs.Select(x => x.Codes), .. inputs.Select(x => x.Scales), .. weights.Select(x => x.Codes),
            .. weights.Select(x => x.Scales), .. sizes.Select(size => Data.Normal(size.M, size.N, gap: 4)),
        ];
        int count = sizes.Length;
        void Together(IKernels k, Tensor[] t) =>
            k.GroupedScaledLinear([.. Enumerable.Range(0, count).Select(i => Item(t, i))]);
        CompareScaledProducts("split", Together, tensors);
        Tensor[] together = RunOnDevice(Together, tensors);
        Tensor[] alone = RunOnDevice(
            (k, t) =>
            {
                for (int i = count - 1; i >= 0; i--)
                {
                    k.GroupedScaledLinear([Item(t, i)]);
                }
            },
            tensors);
        for (int i = 4 * count; i < tensors.Length; i++)
        {
            TensorAssert.Same(together[i], alone[i], $"product {i - (4 * count)}");
        }

        ScaledProduct Item(Tensor[] t, int i)
        {
            QuantizedTensor At(int list) => new(t[(list * count) + i], t[((list + 1) * count) + i], _rowTiles);
            return new(At(0), At(2), t[(4 * count) + i], Accumulate: i % 2 == 1, Splits: true);
        }
    }

    [Fact]
    public void A_scaled_product_is_near_its_float64_result()
    {
        foreach ((TileFormat a, TileFormat b) in (ReadOnlySpan<(TileFormat, TileFormat)>)
            [(_rowTiles, _blockTiles), (_rowTiles, _rowTiles), (_microTiles, _microTiles)])
        {
            const int M = 33, N = 150, D = 1100;
            QuantizedTensor input = Quantized(M, D, a), weight = Quantized(N, D, b);
            Tensor output = RunOnDevice(
                (k, t) => k.ScaledLinear(new(t[0], t[1], a), new(t[2], t[3], b), t[4]),
                [input.Codes, input.Scales, weight.Codes, weight.Scales, Data.Garbage(M, N)])[4];
            Tensor x = Values(input), w = Values(weight);
            double error = 0, size = 0, both = 0;
            for (int m = 0; m < M; m++)
            {
                for (int n = 0; n < N; n++)
                {
                    double exact = 0, magnitude = 0;
                    for (int d = 0; d < D; d++)
                    {
                        double term = (double)x.Row(m)[d] * w.Row(n)[d];
                        exact += term;
                        magnitude += Math.Abs(term);
                    }

                    double actual = output.Row(m)[n];
                    double difference = Math.Abs(actual - exact);
                    Assert.InRange(difference, 0, ScaledProductDifference > 0 ? double.MaxValue : 1e-6 * magnitude);
                    error += difference * difference;
                    size += exact * exact;
                    both += (exact * exact) + (actual * actual);
                }
            }

            if (ScaledProductDifference > 0)
            {
                Assert.InRange(error / both, 0, ScaledProductDifference);
            }
            else
            {
                Assert.InRange(Math.Sqrt(error / size), 0, 1e-6);
            }
        }
    }

    private void CompareScaledProducts(string context, Action<IKernels, Tensor[]> call, params Tensor[] tensors)
        => Compare(
            context,
            (expected, actual, name) =>
            {
                if (ScaledProductDifference == 0 || expected.DType != DType.Float32)
                {
                    TensorAssert.Same(expected, actual, name);
                    return;
                }

                double difference = TensorAssert.Difference(expected, actual);
                Assert.True(
                    difference <= ScaledProductDifference,
                    $"{name}: difference {difference:g3}, allowed {ScaledProductDifference:g3}");
            },
            call, tensors);
}
