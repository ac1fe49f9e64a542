using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Kernels;

/// <content>Quantised matrices and their products.</content>
public abstract unsafe partial class KernelContract
{
    private static readonly TileFormat _rowTiles = new(DType.Float8E4M3, 1, 128);
    private static readonly TileFormat _blockTiles = new(DType.Float8E4M3, 128, 128);
    private static readonly TileFormat _microTiles = new(DType.Float8E4M3, 1, 32, PowerOfTwo: true);

    private static readonly TileFormat[] _formats =
    [
        _rowTiles, _blockTiles, _microTiles, new(DType.Float8E5M2, 1, 128, SmallestMax: 1e-4f),
        new(DType.Float12E5M6, 1, 128, PowerOfTwo: true), new(DType.Float8E4M3, 128, 1),
    ];

    /// <summary>Bound on scaled products; the contract fixes their order of sums, so the bits agree.</summary>
    protected virtual double ScaledProductTolerance => 0;

    [Fact]
    public void Quantize_agrees_in_both_directions()
    {
        foreach (TileFormat format in _formats)
        {
            foreach ((int r, int d) in (ReadOnlySpan<(int, int)>)
                [(1, 1), (3, 128), (17, 129), (130, 31), (128, 300), (257, 64), (0, 5), (5, 0)])
            {
                foreach (int gathered in (ReadOnlySpan<int>)[-1, 0, 5, 140])
                {
                    if (gathered > 0 && r == 0)
                    {
                        continue;
                    }

                    Data.Reset();
                    int m = gathered < 0 ? r : gathered;
                    Tensor rows = gathered < 0 ? default : Data.RandomInts(gathered, 0, Math.Max(1, r));
                    Tensor[] tensors =
                    [
                        Data.Normal(r, d, gap: 3), rows,
                        Codes(m, d, format), Scales(m, d, format), Codes(d, m, format), Scales(d, m, format),
                    ];
                    if (m > 0 && d > 0)
                    {
                        tensors[0].Row(0)[d / 2] = 1000;
                    }

                    Compare(
                        $"{format} R={r} D={d} gathered={gathered}", 0,
                        (k, t) => k.Quantize(t[0], t[1], new(t[2], t[3], format), new(t[4], t[5], format)), tensors);
                }
            }
        }
    }

    [Fact]
    public void What_is_not_finite_stays_so_within_its_tile()
    {
        foreach (TileFormat format in _formats)
        {
            Data.Reset();
            Tensor source = Data.Normal(3, 400);
            (source.Row(0)[5], source.Row(1)[140], source.Row(2)[399]) =
                (float.NaN, float.PositiveInfinity, float.NegativeInfinity);
            (source.Row(0)[6], source.Row(0)[7]) = (-0f, float.Epsilon);
            Tensor[] tensors = [source, Codes(3, 400, format), Scales(3, 400, format), Data.Garbage(3, 400)];
            Compare(
                $"{format}", 0, (k, t) => k.Quantize(t[0], default, new(t[1], t[2], format), default), tensors[..3]);

            // Which NaN a product of two of them is, is nobody's promise: values are compared, not bits.
            Tensor back = RunOnDevice(
                (k, t) =>
                {
                    k.Quantize(t[0], default, new(t[1], t[2], format), default);
                    k.Dequantize(new(t[1], t[2], format), t[3]);
                },
                tensors)[3];
            foreach ((int row, int column) in (ReadOnlySpan<(int, int)>)[(0, 5), (1, 140), (2, 399)])
            {
                Assert.False(float.IsFinite(back.Row(row)[column]), $"{format}, [{row}, {column}]");
            }
        }
    }

    [Fact]
    public void One_direction_alone_has_the_codes_of_both_at_once()
    {
        Tensor[] t =
        [
            Data.Normal(140, 70), Codes(140, 70, _rowTiles), Scales(140, 70, _rowTiles), Codes(70, 140, _rowTiles),
            Scales(70, 140, _rowTiles),
        ];
        Tensor[] both = RunOnDevice(
            (k, x) => k.Quantize(x[0], default, new(x[1], x[2], _rowTiles), new(x[3], x[4], _rowTiles)), t);
        Tensor[] single = RunOnDevice(
            (k, x) =>
            {
                k.Quantize(x[0], default, new(x[1], x[2], _rowTiles), default);
                k.Quantize(x[0], default, default, new(x[3], x[4], _rowTiles));
            },
            t);
        for (int i = 1; i < t.Length; i++)
        {
            TensorAssert.Same(both[i], single[i], $"tensor {i}");
        }
    }

    [Fact]
    public void Dequantize_agrees()
    {
        foreach (TileFormat format in _formats)
        {
            foreach ((int m, int d) in (ReadOnlySpan<(int, int)>)[(1, 1), (3, 130), (200, 257), (0, 4), (4, 0)])
            {
                Data.Reset();
                QuantizedTensor source = Quantized(m, d, format);
                Compare(
                    $"{format} M={m} D={d}", 0, (k, t) => k.Dequantize(new(t[0], t[1], format), t[2]),
                    source.Codes, source.Scales, Data.Garbage(m, d, gap: 2));
            }
        }
    }

    [Fact]
    public void Rounding_to_bfloat16_agrees_stored_widened_and_in_place()
    {
        for (int columns = 0; columns <= 70; columns++)
        {
            Data.Reset();
            Compare(
                $"{columns} columns", 0,
                (k, t) =>
                {
                    k.RoundToBFloat16(t[0], t[1]);
                    k.RoundToBFloat16(t[0], t[2]);
                    k.RoundToBFloat16(t[0], t[0]);
                },
                Data.Normal(3, columns, gap: columns % 3), Data.Garbage(3, columns, gap: 1),
                Data.Garbage(3, columns, DType.BFloat16, columns % 3));
        }
    }

    [Fact]
    public void Scaled_products_agree_over_all_shapes()
    {
        int turn = 0;
        foreach ((int m, int n, int d) in (ReadOnlySpan<(int, int, int)>)
            [
                (1, 1, 1), (1, 130, 300), (3, 33, 128), (17, 65, 129), (64, 256, 512), (100, 129, 31), (200, 40, 700),
                (12, 32, 256), (97, 128, 33), (0, 5, 7), (5, 7, 0), (5, 0, 7),
            ])
        {
            foreach ((TileFormat a, TileFormat b) in (ReadOnlySpan<(TileFormat, TileFormat)>)
                [(_rowTiles, _blockTiles), (_rowTiles, _rowTiles), (_microTiles, _microTiles),
                    (_rowTiles with { Element = DType.Float8E5M2 }, _blockTiles)])
            {
                Data.Reset();
                bool accumulate = turn++ % 2 == 1;
                QuantizedTensor input = Quantized(m, d, a), weight = Quantized(n, d, b);
                Compare(
                    $"M={m} N={n} D={d} {a} by {b} accumulate={accumulate}", ScaledProductTolerance,
                    (k, t) => k.ScaledLinear(new(t[0], t[1], a), new(t[2], t[3], b), t[4], accumulate),
                    input.Codes, input.Scales, weight.Codes, weight.Scales,
                    accumulate ? Data.Normal(m, n, gap: 3) : Data.Garbage(m, n, gap: 3));
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
            input.Codes, input.Scales, rows, Data.Normal(total, N, gap: 2), .. weights.Select(w => w.Codes),
            .. weights.Select(w => w.Scales),
        ];
        Compare(
            $"groups {string.Join(',', counts)}", ScaledProductTolerance,
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
            double error = 0, size = 0;
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

                    double difference = Math.Abs(output.Row(m)[n] - exact);
                    Assert.InRange(difference, 0, 1e-6 * magnitude);
                    error += difference * difference;
                    size += exact * exact;
                }
            }

            Assert.InRange(Math.Sqrt(error / size), 0, 1e-6);
        }
    }

    [Fact]
    public void Quantised_kernels_reject_wrong_shapes()
    {
        Tensor[] t =
        [
            Data.Normal(3, 130), Codes(3, 130, _rowTiles), Scales(3, 130, _rowTiles), Codes(4, 130, _rowTiles),
            Scales(4, 130, _rowTiles), Data.Garbage(3, 4), Data.Ints(0, 1, 3), Data.Garbage(4, 5),
            Scales(4, 130, _microTiles),
        ];
        AssertRejected("no destination", (k, x) => k.Quantize(x[0], default, default, default), t);
        AssertRejected("rows", (k, x) => k.Quantize(x[0], default, new(x[3], x[4], _rowTiles), default), t);
        AssertRejected("scales", (k, x) => k.Quantize(x[0], default, new(x[1], x[4], _rowTiles), default), t);
        AssertRejected("turned", (k, x) => k.Quantize(x[0], default, default, new(x[1], x[2], _rowTiles)), t);
        AssertRejected("gather", (k, x) => k.Quantize(x[0], x[6], new(x[1], x[2], _rowTiles), default), t);
        AssertRejected(
            "element",
            (k, x) => k.Quantize(x[0], default, new(x[1], x[2], _rowTiles with { Element = DType.Float8E5M2 }), default), t);
        AssertRejected("back", (k, x) => k.Dequantize(new(x[1], x[2], _rowTiles), x[7]), t);
        AssertRejected("bfloat16", (k, x) => k.RoundToBFloat16(x[0], x[5]), t);
        AssertRejected(
            "output", (k, x) => k.ScaledLinear(new(x[1], x[2], _rowTiles), new(x[3], x[4], _rowTiles), x[7]), t);
        AssertRejected(
            "tile widths",
            (k, x) => k.ScaledLinear(
                new(x[1], x[2], _rowTiles), new(x[3], x[8], _microTiles), x[5]), t);
    }

    private Tensor Codes(int rows, int columns, TileFormat format) => Data.Garbage(rows, columns, format.Element);

    private Tensor Scales(int rows, int columns, TileFormat format) =>
        Data.Garbage(format.TileRows(rows), format.TileColumns(columns));

    /// <summary>Normal values with a few outliers, quantised by the oracle.</summary>
    private QuantizedTensor Quantized(int rows, int columns, TileFormat format)
    {
        Tensor source = Data.Normal(rows, columns);
        for (int row = 0; row < rows && columns > 0; row += 5)
        {
            source.Row(row)[row % columns] *= 50;
        }

        QuantizedTensor result = new(Codes(rows, columns, format), Scales(rows, columns, format), format);
        _reference.Quantize(source, default, result, default);
        return result;
    }

    private Tensor Values(QuantizedTensor source)
    {
        Tensor values = Data.Garbage(source.Rows, source.Columns);
        _reference.Dequantize(source, values);
        return values;
    }
}
