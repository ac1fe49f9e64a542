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

    /// <summary>E4M3.</summary>
    internal static readonly Minifloat E4M3 = new(exponentBits: 4, mantissaBits: 3, largest: 0x7E, nan: 0x7F);

    /// <summary>E5M2.</summary>
    internal static readonly Minifloat E5M2 = new(exponentBits: 5, mantissaBits: 2, largest: 0x7B, nan: 0x7F);

    private static readonly float[] _e4M3Values = E4M3.Table();
    private static readonly float[] _e5M2Values = E5M2.Table();

    /// <summary>Value of each of the 256 E4M3 codes.</summary>
    public static ReadOnlySpan<float> E4M3Table => _e4M3Values;

    /// <summary>Value of each of the 256 E5M2 codes.</summary>
    public static ReadOnlySpan<float> E5M2Table => _e5M2Values;

    /// <summary>The value of an E4M3 code.</summary>
    public static float DecodeE4M3(byte code) => _e4M3Values[code];

    /// <summary>The value of an E5M2 code.</summary>
    public static float DecodeE5M2(byte code) => _e5M2Values[code];

    /// <summary>The nearest E4M3 code.</summary>
    public static byte EncodeE4M3(float value) => (byte)E4M3.Encode(value);

    /// <summary>The nearest E5M2 code.</summary>
    public static byte EncodeE5M2(float value) => (byte)E5M2.Encode(value);

    /// <summary>destination[i] = value of source[i] times <paramref name="scale"/>.</summary>
    /// <param name="source">Codes.</param>
    /// <param name="destination">At least as long.</param>
    /// <param name="table"><see cref="E4M3Table"/> or <see cref="E5M2Table"/>.</param>
    /// <param name="scale">Dequantisation multiplier.</param>
    public static void Decode(
        ReadOnlySpan<byte> source, Span<float> destination, ReadOnlySpan<float> table, float scale = 1) =>
        QuantizedElements.DecodeBytes(source, destination, table, scale);

    /// <summary>destination[i] = E4M3 code of source[i] / <paramref name="scale"/>.</summary>
    /// <param name="source">Values.</param>
    /// <param name="destination">At least as long.</param>
    /// <param name="scale">Dequantisation multiplier; the quotient is taken in float32 before rounding.</param>
    public static void EncodeE4M3(ReadOnlySpan<float> source, Span<byte> destination, float scale = 1) =>
        QuantizedElements.EncodeBytes(E4M3, source, destination, scale);

    /// <summary>destination[i] = E5M2 code of source[i] / <paramref name="scale"/>.</summary>
    /// <param name="source">Values.</param>
    /// <param name="destination">At least as long.</param>
    /// <param name="scale">Dequantisation multiplier; the quotient is taken in float32 before rounding.</param>
    public static void EncodeE5M2(ReadOnlySpan<float> source, Span<byte> destination, float scale = 1) =>
        QuantizedElements.EncodeBytes(E5M2, source, destination, scale);
}
