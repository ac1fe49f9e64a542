namespace Krewe.Model.Precision;

/// <summary>
/// E8M0, the scale of the microscaling formats (OCP MX 1.0): a power of two in one byte, exponent plus 127; 255 is NaN.
/// DeepSeek's <c>ue8m0</c>.
/// </summary>
public static class ScaleFormat
{
    private const byte NaN = 255;

    /// <summary>The byte of a power of two.</summary>
    /// <exception cref="ArgumentException">It is none, or not normal.</exception>
    public static byte Encode(float scale)
    {
        uint bits = BitConverter.SingleToUInt32Bits(scale);
        return float.IsNaN(scale) ? NaN
            : float.IsNormal(scale) && (bits & 0x807F_FFFF) == 0 ? (byte)(bits >> 23)
            : throw new ArgumentException($"scale: expected a positive power of two, got {scale}", nameof(scale));
    }

    /// <summary>The scale of a byte, exactly; 0 is 2^-127, a subnormal float.</summary>
    public static float Decode(byte code) => code == NaN ? float.NaN : MathF.ScaleB(1, code - 127);
}
