namespace Krewe.Model.Precision;

/// <summary>
/// The two FP8 formats of arXiv 2209.05433: E4M3 without infinities (PyTorch's <c>float8_e4m3fn</c>, largest value 448)
/// and E5M2 (largest finite value 57344). Encoding rounds to nearest, ties to even, subnormals included.
/// </summary>
/// <remarks>
/// A value beyond the largest finite one saturates to it, as training needs; PyTorch's cast makes it NaN (E4M3, past
/// 464) or infinity (E5M2). Within range both agree bit for bit. NaN stays NaN.
/// </remarks>
public static class Float8Format
{
    /// <summary>Largest E4M3 value.</summary>
    public const float E4M3Max = 448;

    /// <summary>Largest finite E5M2 value.</summary>
    public const float E5M2Max = 57344;

    private static readonly float[] _e4M3Values = Table(mantissaBits: 3, bias: 7, infinities: false);
    private static readonly float[] _e5M2Values = Table(mantissaBits: 2, bias: 15, infinities: true);

    /// <summary>Value of each of the 256 E4M3 codes.</summary>
    public static ReadOnlySpan<float> E4M3Table => _e4M3Values;

    /// <summary>Value of each of the 256 E5M2 codes.</summary>
    public static ReadOnlySpan<float> E5M2Table => _e5M2Values;

    /// <summary>The value of an E4M3 code.</summary>
    public static float DecodeE4M3(byte code) => _e4M3Values[code];

    /// <summary>The value of an E5M2 code.</summary>
    public static float DecodeE5M2(byte code) => _e5M2Values[code];

    /// <summary>The nearest E4M3 code.</summary>
    public static byte EncodeE4M3(float value) => Encode(value, mantissaBits: 3, bias: 7, largest: 0x7E);

    /// <summary>The nearest E5M2 code.</summary>
    public static byte EncodeE5M2(float value) => Encode(value, mantissaBits: 2, bias: 15, largest: 0x7B);

    /// <summary>destination[i] = value of source[i] times <paramref name="scale"/>.</summary>
    /// <param name="source">Codes.</param>
    /// <param name="destination">At least as long.</param>
    /// <param name="table"><see cref="E4M3Table"/> or <see cref="E5M2Table"/>.</param>
    /// <param name="scale">Dequantisation multiplier.</param>
    public static void Decode(
        ReadOnlySpan<byte> source, Span<float> destination, ReadOnlySpan<float> table, float scale = 1)
    {
        destination = destination[..source.Length];
        for (int i = 0; i < source.Length; i++)
        {
            destination[i] = table[source[i]] * scale;
        }
    }

    /// <summary>destination[i] = E4M3 code of source[i] / <paramref name="scale"/>.</summary>
    /// <param name="source">Values.</param>
    /// <param name="destination">At least as long.</param>
    /// <param name="scale">Dequantisation multiplier; the quotient is taken in float32 before rounding.</param>
    public static void EncodeE4M3(ReadOnlySpan<float> source, Span<byte> destination, float scale = 1)
    {
        destination = destination[..source.Length];
        for (int i = 0; i < source.Length; i++)
        {
            destination[i] = EncodeE4M3(source[i] / scale);
        }
    }

    private static byte Encode(float value, int mantissaBits, int bias, uint largest)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        uint sign = (bits >> 24) & 0x80;
        uint magnitude = bits & 0x7FFF_FFFF;
        if (magnitude > 0x7F80_0000)
        {
            return (byte)(sign | 0x7F);
        }

        int dropped = 23 - mantissaBits;
        uint code;
        if (magnitude < (uint)(128 - bias) << 23)
        {
            // Below the smallest normal value: a float addition whose last place is one FP8 step rounds for us.
            uint stepBits = (uint)(127 - bias + dropped + 1) << 23;
            float step = BitConverter.UInt32BitsToSingle(stepBits);
            code = BitConverter.SingleToUInt32Bits(BitConverter.UInt32BitsToSingle(magnitude) + step) - stepBits;
        }
        else
        {
            uint odd = (magnitude >> dropped) & 1;
            code = (magnitude - ((uint)(127 - bias) << 23) + ((1u << (dropped - 1)) - 1) + odd) >> dropped;
        }

        return (byte)(sign | Math.Min(code, largest));
    }

    private static float[] Table(int mantissaBits, int bias, bool infinities)
    {
        float[] values = new float[256];
        int mantissas = 1 << mantissaBits;
        int lastExponent = (1 << (7 - mantissaBits)) - 1;
        for (int code = 0; code < 128; code++)
        {
            int exponent = code >> mantissaBits;
            int mantissa = code & (mantissas - 1);
            float value = exponent == 0
                ? MathF.ScaleB(mantissa, 1 - bias - mantissaBits)
                : MathF.ScaleB(mantissas + mantissa, exponent - bias - mantissaBits);
            if (infinities && exponent == lastExponent)
            {
                value = mantissa == 0 ? float.PositiveInfinity : float.NaN;
            }

            values[code] = !infinities && code == 0x7F ? float.NaN : value;
            values[code + 128] = -values[code];
        }

        return values;
    }
}
