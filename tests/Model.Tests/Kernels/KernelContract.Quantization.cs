using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Kernels;

/// <content>Quantised matrices.</content>
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
    public void Many_matrices_are_quantised_each_as_if_alone()
    {
        (int Rows, int Columns, TileFormat Format, bool Straight, bool Transposed)[] items =
        [
            (128, 256, _blockTiles, true, true), (1, 1, _blockTiles, true, false), (70, 130, _rowTiles, false, true),
            (0, 5, _rowTiles, true, true), (200, 40, new(DType.Float12E5M6, 1, 128), true, true),
            (33, 65, new(DType.Float8E4M3, 5, 7), true, true), (300, 129, _blockTiles, true, true),
        ];
        Tensor[] tensors =
        [
            .. items.SelectMany(item => new[]
            {
                Data.Normal(item.Rows, item.Columns, gap: item.Rows % 2),
                Codes(item.Rows, item.Columns, item.Format), Scales(item.Rows, item.Columns, item.Format),
                Codes(item.Columns, item.Rows, item.Format), Scales(item.Columns, item.Rows, item.Format),
            }),
        ];
        Compare(
            "many", 0,
            (k, t) => k.QuantizeMany(
            [
                .. items.Select((item, i) => new QuantizedCopies(
                    t[5 * i],
                    item.Straight ? new(t[(5 * i) + 1], t[(5 * i) + 2], item.Format) : default,
                    item.Transposed ? new(t[(5 * i) + 3], t[(5 * i) + 4], item.Format) : default)),
            ]),
            tensors);
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
    public void Fused_quantisation_has_the_bits_of_both_kernels()
    {
        foreach (TileFormat format in _formats)
        {
            foreach ((int m, int d) in (ReadOnlySpan<(int, int)>)[(1, 1), (3, 128), (130, 31), (200, 260)])
            {
                Data.Reset();
                Tensor[] t =
                [
                    Data.Normal(m, d, gap: m == 3 ? 4 : 3), Data.Normal(m, d, gap: 1), Data.NormalVector(d),
                    Data.Garbage(m, d), Data.GarbageVector(m), Codes(m, d, format), Scales(m, d, format),
                    Codes(d, m, format), Scales(d, m, format),
                ];
                foreach (bool keeps in (bool[])[true, false])
                {
                    AssertSame(
                        $"RMSNorm {format} M={m} D={d}", keeps,
                        (k, x, a, b) => k.RmsNormQuantize(x[0], x[2], x[3], x[4], 1e-6f, a, b, keeps),
                        (k, x, a, b) =>
                        {
                            k.RmsNorm(x[0], x[2], x[3], x[4], 1e-6f);
                            k.Quantize(x[3], default, a, b);
                        });
                    AssertSame(
                        $"SwiGLU {format} M={m} D={d}", keeps,
                        (k, x, a, b) => k.SwiGluQuantize(x[0], x[1], x[3], a, b, keeps),
                        (k, x, a, b) =>
                        {
                            k.SwiGlu(x[0], x[1], x[3]);
                            k.Quantize(x[3], default, a, b);
                        });
                }

                void AssertSame(
                    string context, bool keeps, Action<IKernels, Tensor[], QuantizedTensor, QuantizedTensor> fused,
                    Action<IKernels, Tensor[], QuantizedTensor, QuantizedTensor> both)
                {
                    Tensor[] actual = RunOnDevice((k, x) => fused(k, x, new(x[5], x[6], format), new(x[7], x[8], format)), t);
                    Tensor[] expected = RunOnDevice(
                        (k, x) => both(k, x, new(x[5], x[6], format), new(x[7], x[8], format)), t);
                    for (int i = keeps ? 3 : 4; i < t.Length; i++)
                    {
                        TensorAssert.Same(expected[i], actual[i], $"{context}, tensor {i}");
                    }
                }
            }
        }
    }

    [Fact]
    public void Quantising_anew_has_the_bits_of_both_kernels()
    {
        foreach (TileFormat format in _formats)
        {
            foreach ((int r, int d) in (ReadOnlySpan<(int, int)>)[(1, 1), (130, 200), (257, 33), (0, 5), (64, 512)])
            {
                Data.Reset();
                Tensor[] result = RunOnDevice(
                    (k, t) =>
                    {
                        k.Quantize(t[0], default, new(t[1], t[2], format), default);
                        k.Requantize(new(t[1], t[2], format), t[3], new(t[4], t[5], format));
                        k.Dequantize(new(t[1], t[2], format), t[0]);
                        k.Quantize(t[0], default, default, new(t[6], t[7], format));
                    },
                    [
                        Data.Normal(r, d), Codes(r, d, format), Scales(r, d, format), Data.Garbage(r, d),
                        Codes(d, r, format), Scales(d, r, format), Codes(d, r, format), Scales(d, r, format),
                    ]);
                TensorAssert.Same(result[6], result[4], $"{format} R={r} D={d}, codes");
                TensorAssert.Same(result[7], result[5], $"{format} R={r} D={d}, scales");
            }
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
