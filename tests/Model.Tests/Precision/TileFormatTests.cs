using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Xunit;

namespace Krewe.Model.Tests.Precision;

/// <summary>Tiles in both directions, microscaling and E5M6: what must hold for any matrix.</summary>
public sealed class TileFormatTests
{
    private const int Rows = 200, Columns = 300;

    public static TheoryData<TileFormat> Formats =>
    [
        new TileFormat(DType.Float8E4M3, 1, 128), new TileFormat(DType.Float8E4M3, 128, 1),
        new TileFormat(DType.Float8E4M3, 128, 128), new TileFormat(DType.Float8E4M3, 1, 128, PowerOfTwo: true),
        new TileFormat(DType.Float8E4M3, 1, 32, PowerOfTwo: true),
        new TileFormat(DType.Float8E4M3, 1, 128, SmallestMax: 1e-4f), new TileFormat(DType.Float8E5M2, 1, 128),
        new TileFormat(DType.Float12E5M6, 1, 128, PowerOfTwo: true),
    ];

    [Theory]
    [MemberData(nameof(Formats))]
    public void An_element_is_off_by_at_most_half_a_step(TileFormat format)
    {
        float[] values = Matrix();
        float[] back = Back(values, format, out float[] scales);
        double relative = format.Element switch
        {
            DType.Float8E4M3 => 1.0 / 16,
            DType.Float8E5M2 => 1.0 / 8,
            _ => 1.0 / 128,
        };
        double smallest = format.Element switch
        {
            DType.Float8E4M3 => Math.Pow(2, -10),
            DType.Float8E5M2 => Math.Pow(2, -17),
            _ => Math.Pow(2, -21),
        };
        for (int i = 0; i < values.Length; i++)
        {
            float scale = ScaleOf(scales, format, i);
            double allowed = Math.Max(Math.Abs(values[i]) * relative, scale * smallest) * (1 + 1e-6);
            Assert.InRange(Math.Abs(back[i] - values[i]), 0, allowed);
        }
    }

    [Theory]
    [MemberData(nameof(Formats))]
    public void The_largest_element_of_a_tile_fills_the_range(TileFormat format)
    {
        float[] values = Matrix();
        byte[] codes = new byte[values.Length * format.Element.SizeInBytes()];
        float[] scales = new float[format.TileRows(Rows) * format.TileColumns(Columns)];
        TileQuantization.Quantize(values, Rows, Columns, format, codes, scales);
        for (int tile = 0; tile < scales.Length; tile++)
        {
            float max = 0;
            for (int i = 0; i < values.Length; i++)
            {
                max = TileOf(format, i) == tile ? Math.Max(max, Math.Abs(values[i])) : max;
            }

            float exact = Math.Max(max, format.SmallestMax) / format.ElementMax;
            if (exact == 0)
            {
                Assert.Equal(1, scales[tile]);
            }
            else if (format.PowerOfTwo)
            {
                Assert.InRange(scales[tile] / exact, 1, 1.9999999f);
                Assert.Equal(scales[tile], ScaleFormat.Decode(ScaleFormat.Encode(scales[tile])));
            }
            else
            {
                Assert.Equal(exact, scales[tile]);
            }
        }
    }

    [Fact]
    public void Quantising_twice_with_powers_of_two_changes_nothing()
    {
        foreach (TileFormat format in (TileFormat[])
            [new(DType.Float8E4M3, 1, 128, true), new(DType.Float8E4M3, 1, 32, true), new(DType.Float12E5M6, 1, 128, true)])
        {
            float[] once = Back(Matrix(), format, out _);
            Assert.Equal(once, Back(once, format, out _));
        }
    }

    [Fact]
    public void E5M6_with_powers_of_two_survives_the_turn_to_the_other_direction()
    {
        // Report 3.3.3: 1x128 to 128x1 must add no error, where the rows' magnitudes lie within the range of the format.
        float[] once = Back(Matrix(spread: 64), new(DType.Float12E5M6, 1, 128, true), out _);
        Assert.Equal(once, Back(once, new(DType.Float12E5M6, 128, 1, true), out _));
    }

    [Fact]
    public void An_infinity_spoils_its_tile_and_NaN_stays()
    {
        float[] values = [.. Enumerable.Repeat(1f, 384)];
        values[5] = float.PositiveInfinity;
        values[200] = float.NaN;
        byte[] codes = new byte[384];
        float[] scales = new float[3], back = new float[384];
        var format = new TileFormat(DType.Float8E4M3, 1, 128);
        TileQuantization.Quantize(values, 1, 384, format, codes, scales);
        TileQuantization.Dequantize(codes, scales, 1, 384, format, back);
        Assert.True(float.IsNaN(back[5]) && float.IsNaN(back[6]));
        Assert.True(float.IsNaN(back[200]));
        Assert.Equal(1f, back[300]);
    }

    private static float[] Back(float[] values, TileFormat format, out float[] scales)
    {
        byte[] codes = new byte[values.Length * format.Element.SizeInBytes()];
        scales = new float[format.TileRows(Rows) * format.TileColumns(Columns)];
        float[] back = new float[values.Length];
        TileQuantization.Quantize(values, Rows, Columns, format, codes, scales);
        TileQuantization.Dequantize(codes, scales, Rows, Columns, format, back);
        return back;
    }

    private static int TileOf(TileFormat format, int i) =>
        (i / Columns / format.Rows * format.TileColumns(Columns)) + (i % Columns / format.Columns);

    private static float ScaleOf(float[] scales, TileFormat format, int i) => scales[TileOf(format, i)];

    /// <summary>Rows of very different magnitude, one of zeros, single outliers.</summary>
    private static float[] Matrix(double spread = 1e6)
    {
        var random = new Random(2);
        float[] values = new float[Rows * Columns];
        for (int i = 0; i < values.Length; i++)
        {
            int row = i / Columns;
            double size = row == 7 ? 0 : Math.Pow(spread, (row % 10 / 10.0) - 0.5);
            values[i] = (float)((random.NextDouble() - 0.5) * size * (i % 997 == 0 ? 30 : 1));
        }

        return values;
    }
}
