using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Kernels;

/// <content>Gradients that are quantised as they are made, against the simpler calls on the same backend.</content>
public abstract unsafe partial class KernelContract
{
    private static readonly TileFormat _powerTiles = _rowTiles with { PowerOfTwo = true };

    [Theory]
    [MemberData(nameof(Layers))]
    public void Gradients_of_swiglu_in_tiles_have_the_bits_of_simpler_calls(
        int tokens, int experts, int topK, int groupSize, int channels, int width)
    {
        _ = (groupSize, channels);
        int slots = tokens * topK;
        foreach ((TileFormat cache, TileFormat tiles) in (ReadOnlySpan<(TileFormat, TileFormat)>)
            [(_rowTiles, _powerTiles), (_microTiles, _microTiles), (_rowTiles, _rowTiles with { SmallestMax = 1e-4f })])
        {
            foreach (bool planned in (ReadOnlySpan<bool>)[false, true])
            {
                Data.Reset();
                int turned = planned ? TurnedColumns(slots, experts) : slots;
                Tensor[] tensors =
                [
                    .. TableTensors(Choice(tokens, experts, topK, 0), experts), Data.Normal(slots, width, gap: 4),
                    Data.Normal(slots, width, gap: 8), Data.Normal(slots, width),
                    .. TilesOf(width, turned, tiles), .. TilesOf(slots, width, tiles), .. TilesOf(width, turned, tiles),
                    .. TilesOf(slots, width, tiles), .. TilesOf(width, turned, tiles), .. TilesOf(slots, width, cache),
                    Data.Garbage(slots, width), Data.Garbage(slots, width),
                ];
                tensors[4].Row(slots / 2)[width / 2] = 700;
                string context = $"T={tokens} E={experts} K={topK} F={width} {cache} {tiles} planned={planned}";
                Tensor[] actual = RunOnDevice(
                    (k, t) =>
                    {
                        k.PlanDispatch(t[0], TableOf(t));
                        k.SwiGluBackwardTiles(
                            t[6], t[4], t[5], cache, planned ? TableOf(t) : default,
                            new(
                                At(t, 7, tiles), At(t, 9, tiles), At(t, 11, tiles), At(t, 13, tiles),
                                At(t, 15, tiles)));
                    },
                    tensors);
                Tensor[] expected = RunOnDevice((k, t) => DifferentiateSimply(k, t, cache, tiles, planned), tensors);
                for (int i = 7; i < 17; i++)
                {
                    TensorAssert.Same(expected[i], actual[i], $"{context}, tensor {i}");
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(Layers))]
    public void Tiles_of_experts_from_tiles_and_from_weighted_rows_have_the_bits_of_simpler_calls(
        int tokens, int experts, int topK, int groupSize, int channels, int width)
    {
        _ = (groupSize, width);
        int slots = tokens * topK, turned = TurnedColumns(slots, experts);
        foreach (TileFormat tiles in (ReadOnlySpan<TileFormat>)[_rowTiles, _microTiles, _powerTiles])
        {
            foreach (bool gathers in (ReadOnlySpan<bool>)[false, true])
            {
                Data.Reset();
                int rows = gathers ? tokens : slots;
                QuantizedTensor source = Quantized(rows, channels, tiles);
                Tensor[] tensors =
                [
                    .. TableTensors(Choice(tokens, experts, topK, 0), experts), source.Codes, source.Scales,
                    .. TilesOf(channels, turned, tiles), Data.Garbage(rows, channels),
                    Data.Normal(tokens, channels, gap: 4), Data.Normal(slots, channels),
                    Data.Normal(tokens, topK, gap: 1), Data.Garbage(tokens, topK),
                    .. TilesOf(slots, channels, tiles), .. TilesOf(channels, turned, tiles),
                    Data.Garbage(slots, channels),
                ];
                Tensor[] actual = RunOnDevice(
                    (k, t) =>
                    {
                        k.PlanDispatch(t[0], TableOf(t));
                        k.RequantizeExperts(At(t, 4, tiles), TableOf(t), gathers, At(t, 6, tiles));
                        k.CombineExpertsBackwardTiles(
                            t[9], t[10], TableOf(t), t[11], DType.BFloat16, At(t, 13, tiles), At(t, 15, tiles), t[12]);
                    },
                    tensors);
                Tensor[] expected = RunOnDevice(
                    (k, t) =>
                    {
                        k.PlanDispatch(t[0], TableOf(t));
                        k.Dequantize(At(t, 4, tiles), t[8]);
                        k.QuantizeExperts(t[8], TableOf(t), gathers, default, At(t, 6, tiles));
                        k.CombineExpertsBackward(t[9], t[10], TableOf(t), t[11], DType.BFloat16, t[17], t[12]);
                        k.QuantizeExperts(t[17], TableOf(t), false, At(t, 13, tiles), At(t, 15, tiles));
                    },
                    tensors);
                foreach (int i in (ReadOnlySpan<int>)[6, 7, 12, 13, 14, 15, 16])
                {
                    TensorAssert.Same(
                        expected[i], actual[i],
                        $"T={tokens} E={experts} K={topK} D={channels} {tiles} gathers={gathers}, tensor {i}");
                }
            }
        }
    }

    [Fact]
    public void Gradients_in_tiles_of_other_shapes_are_rejected()
    {
        Tensor[] tensors =
        [
            .. TableTensors(Choice(4, 6, 2, 0), 6), Data.Normal(8, 16), Data.Normal(8, 16), Data.Normal(8, 16),
            .. TilesOf(16, 8, _rowTiles), .. TilesOf(8, 16, _rowTiles), .. TilesOf(16, 8, _rowTiles),
            .. TilesOf(8, 16, _rowTiles), .. TilesOf(16, 8, _rowTiles), .. TilesOf(8, 16, _blockTiles),
        ];
        AssertRejected("cache", (k, t) => Call(k, t, _blockTiles, default, 9), tensors);
        AssertRejected("Hidden", (k, t) => Call(k, t, _rowTiles, TableOf(t), 9), tensors);
        AssertRejected("Gate", (k, t) => Call(k, t, _rowTiles, default, 7), tensors);
        AssertRejected(
            "transposed",
            (k, t) => k.RequantizeExperts(At(t, 9, _rowTiles), TableOf(t), false, At(t, 7, _rowTiles)), tensors);

        static void Call(IKernels k, Tensor[] t, TileFormat cache, DispatchTable table, int gate)
        {
            QuantizedTensor Tiles(int index) => At(t, index, _rowTiles);
            k.SwiGluBackwardTiles(
                t[6], t[4], t[5], cache, table, new(Tiles(7), Tiles(gate), Tiles(11), Tiles(13), Tiles(15)));
        }
    }

    private static void DifferentiateSimply(IKernels k, Tensor[] t, TileFormat cache, TileFormat tiles, bool planned)
    {
        k.PlanDispatch(t[0], TableOf(t));
        foreach (int i in (ReadOnlySpan<int>)[4, 5])
        {
            k.Quantize(t[i], default, At(t, 17, cache), default);
            k.Dequantize(At(t, 17, cache), t[i]);
        }

        k.SwiGlu(t[4], t[5], t[19]);
        Quantize(t[19], default, At(t, 7, tiles));
        k.SwiGluBackward(t[6], t[4], t[5], t[19], t[20]);
        Quantize(t[19], At(t, 9, tiles), At(t, 11, tiles));
        Quantize(t[20], At(t, 13, tiles), At(t, 15, tiles));

        void Quantize(Tensor values, QuantizedTensor straight, QuantizedTensor transposed)
        {
            if (planned)
            {
                k.QuantizeExperts(values, TableOf(t), false, straight, transposed);
            }
            else
            {
                k.Quantize(values, default, straight, transposed);
            }
        }
    }

    private static QuantizedTensor At(Tensor[] tensors, int index, TileFormat format) =>
        new(tensors[index], tensors[index + 1], format);

    private Tensor[] TilesOf(int rows, int columns, TileFormat format) =>
        [Codes(rows, columns, format), Scales(rows, columns, format)];
}
