namespace Krewe.Model.Precision;

/// <summary>
/// E5M6: sign, 5 exponent and 6 mantissa bits, the upper 12 bits of a binary16 (largest finite value 65024). The report
/// keeps the input of the Linear after attention in it (3.3.3). Codes take two bytes, upper four bits 0. Encoding rounds
/// to nearest, ties to even, and saturates; NaN stays NaN.
/// </summary>
/// <remarks>
/// The report does not say what its topmost exponent means; here it is infinity and NaN, as in E5M2 and binary16.
/// </remarks>
public static class Float12Format
{
    /// <summary>Largest finite value.</summary>
    public const float Max = 65024;

    /// <summary>E5M6.</summary>
    internal static readonly Minifloat E5M6 = new(exponentBits: 5, mantissaBits: 6, largest: 0x7BF, nan: 0x7FF);

    private static readonly float[] _values = E5M6.Table();

    /// <summary>Value of each of the 4096 codes.</summary>
    public static ReadOnlySpan<float> Table => _values;

    /// <summary>The nearest code.</summary>
    public static ushort Encode(float value) => (ushort)E5M6.Encode(value);

    /// <summary>The value of a code; its upper four bits are ignored.</summary>
    public static float Decode(ushort code) => _values[code & 0xFFF];
}
