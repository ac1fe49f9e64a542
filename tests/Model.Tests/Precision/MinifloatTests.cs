using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Xunit;

namespace Krewe.Model.Tests.Precision;

/// <summary>Encoding against the nearest entry of the decode table, found by comparison in float64.</summary>
public sealed class MinifloatTests
{
    private static readonly DType[] _elements = [DType.Float8E4M3, DType.Float8E5M2, DType.Float12E5M6];

    public static TheoryData<DType> Elements => new(_elements);

    [Theory]
    [MemberData(nameof(Elements))]
    public void The_code_is_the_nearest_of_the_table_and_the_even_one_on_a_tie(DType element)
    {
        foreach (float value in Values(element))
        {
            uint code = QuantizedElements.Encode(element, value);
            Assert.True(Nearest(element, value) == code, $"{element}: {value:R} became {code:X}");
        }
    }

    [Theory]
    [MemberData(nameof(Elements))]
    public void Every_length_of_a_run_has_the_codes_of_the_single_values(DType element)
    {
        float[] values = [.. Values(element)];
        int size = element.SizeInBytes();
        for (int length = 0; length <= 256; length++)
        {
            float[] part = [.. values.Skip(length * 7 % 1000).Take(length)];
            byte[] codes = new byte[length * size];
            QuantizedElements.Encode(element, part, codes, 3);
            float[] back = new float[length];
            QuantizedElements.Decode(element, codes, back, 0.75f);
            for (int i = 0; i < length; i++)
            {
                uint code = size == 1 ? codes[i] : BitConverter.ToUInt16(codes, 2 * i);
                Assert.Equal(QuantizedElements.Encode(element, part[i] / 3), code);
                Assert.Equal(QuantizedElements.Table(element)[(int)code] * 0.75f, back[i]);
            }
        }
    }

    [Theory]
    [MemberData(nameof(Elements))]
    public void Beyond_the_range_it_saturates_and_NaN_stays(DType element)
    {
        float max = QuantizedElements.Max(element);
        ReadOnlySpan<float> table = QuantizedElements.Table(element);
        foreach (float value in (ReadOnlySpan<float>)[max, MathF.BitIncrement(max), 2 * max, 1e30f, float.PositiveInfinity])
        {
            Assert.Equal(max, table[(int)QuantizedElements.Encode(element, value)]);
            Assert.Equal(-max, table[(int)QuantizedElements.Encode(element, -value)]);
        }

        Assert.True(float.IsNaN(table[(int)QuantizedElements.Encode(element, float.NaN)]));
    }

    [Fact]
    public void E5M6_is_the_upper_half_of_a_binary16()
    {
        for (int code = 0; code < 4096; code++)
        {
            Assert.Equal((float)BitConverter.UInt16BitsToHalf((ushort)(code << 4)), Float12Format.Decode((ushort)code));
        }
    }

    [Fact]
    public void A_scale_byte_is_an_exponent()
    {
        for (int code = 1; code < 255; code++)
        {
            Assert.Equal(code, ScaleFormat.Encode(ScaleFormat.Decode((byte)code)));
        }

        Assert.Equal(1, ScaleFormat.Decode(127));
        Assert.Equal(5.877471754111438e-39, ScaleFormat.Decode(0), 1e-45);
        Assert.True(float.IsNaN(ScaleFormat.Decode(255)));
        Assert.Equal(255, ScaleFormat.Encode(float.NaN));
        Assert.Throws<ArgumentException>(() => ScaleFormat.Encode(3));
        Assert.Throws<ArgumentException>(() => ScaleFormat.Encode(-2));
    }

    /// <summary>Every value of the table, every midpoint, their neighbours, and random bits, of both signs.</summary>
    private static IEnumerable<float> Values(DType element)
    {
        float[] table = QuantizedElements.Table(element).ToArray();
        for (int code = 0; code + 1 < table.Length / 2; code++)
        {
            float middle = (table[code] + table[code + 1]) / 2;
            foreach (float value in (float[])
                [table[code], MathF.BitDecrement(middle), middle, MathF.BitIncrement(middle)])
            {
                if (float.IsFinite(value))
                {
                    yield return value;
                    yield return -value;
                }
            }
        }

        var random = new Random(11);
        for (int i = 0; i < 20_000; i++)
        {
            float any = BitConverter.Int32BitsToSingle(random.Next(int.MinValue, int.MaxValue));
            yield return float.IsNaN(any) ? 0 : any;
            yield return (float)((random.NextDouble() - 0.5) * Math.Pow(2, random.Next(-24, 18)));
        }
    }

    private static uint Nearest(DType element, float value)
    {
        float[] table = QuantizedElements.Table(element).ToArray();
        int half = table.Length / 2;
        int last = Array.IndexOf(table, QuantizedElements.Max(element));
        double magnitude = Math.Min(Math.Abs((double)value), table[last]);
        int above = Array.BinarySearch(table, 0, last + 1, (float)magnitude);
        if (above < 0)
        {
            above = ~above;
            double down = magnitude - table[above - 1];
            double up = table[above] - magnitude;
            above -= down < up || (down == up && above % 2 != 0) ? 1 : 0;
        }

        return (uint)(above + (float.IsNegative(value) ? half : 0));
    }
}
