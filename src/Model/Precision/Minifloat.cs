using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Krewe.Model.Precision;

/// <summary>
/// A binary floating-point format of at most 16 bits with a sign and subnormals. Encoding rounds to nearest, ties to
/// even, saturates at the largest finite value and keeps NaN; the scalar and the vector form give the same codes.
/// </summary>
internal readonly struct Minifloat
{
    private const uint MagnitudeMask = 0x7FFF_FFFF;
    private const uint Infinity = 0x7F80_0000;

    private readonly int _mantissaBits;
    private readonly int _bias;
    private readonly int _signShift;
    private readonly uint _signMask;
    private readonly int _dropped;
    private readonly uint _largest;
    private readonly uint _nan;
    private readonly uint _smallestNormal;
    private readonly uint _rebias;
    private readonly uint _stepBits;

    /// <summary>A format of 1 + exponent + mantissa bits.</summary>
    /// <param name="exponentBits">Bits of the exponent; its bias is the IEEE one, 2^(bits - 1) - 1.</param>
    /// <param name="mantissaBits">Bits of the mantissa.</param>
    /// <param name="largest">Code of the largest finite value.</param>
    /// <param name="nan">Code of NaN.</param>
    public Minifloat(int exponentBits, int mantissaBits, uint largest, uint nan)
    {
        int width = 1 + exponentBits + mantissaBits;
        _mantissaBits = mantissaBits;
        _bias = (1 << (exponentBits - 1)) - 1;
        _signShift = 32 - width;
        _signMask = 1u << (width - 1);
        _dropped = 23 - mantissaBits;
        _largest = largest;
        _nan = nan;
        _smallestNormal = (uint)(128 - _bias) << 23;
        _rebias = ((uint)(127 - _bias) << 23) - ((1u << (_dropped - 1)) - 1);
        _stepBits = (uint)(127 - _bias + _dropped + 1) << 23;
    }

    /// <summary>Number of codes.</summary>
    public int Codes => (int)(2 * _signMask);

    /// <summary>The nearest code.</summary>
    public uint Encode(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        uint sign = (bits >> _signShift) & _signMask;
        uint magnitude = bits & MagnitudeMask;
        if (magnitude > Infinity)
        {
            return sign | _nan;
        }

        uint code;
        if (magnitude < _smallestNormal)
        {
            // A float addition whose last place is one step of this format rounds for us.
            float step = BitConverter.UInt32BitsToSingle(_stepBits);
            code = BitConverter.SingleToUInt32Bits(BitConverter.UInt32BitsToSingle(magnitude) + step) - _stepBits;
        }
        else
        {
            code = (magnitude - _rebias + ((magnitude >> _dropped) & 1)) >> _dropped;
        }

        return sign | Math.Min(code, _largest);
    }

    /// <summary>The nearest codes of 16 values.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<uint> Encode(Vector512<float> values)
    {
        Vector512<uint> bits = values.AsUInt32();
        Vector512<uint> sign = (bits >> _signShift) & Vector512.Create(_signMask);
        Vector512<uint> magnitude = bits & Vector512.Create(MagnitudeMask);
        Vector512<uint> odd = (magnitude >> _dropped) & Vector512<uint>.One;
        Vector512<uint> normal = (magnitude - Vector512.Create(_rebias) + odd) >> _dropped;
        Vector512<uint> step = Vector512.Create(_stepBits);
        Vector512<uint> small = (magnitude.AsSingle() + step.AsSingle()).AsUInt32() - step;
        Vector512<uint> isSmall = Vector512.LessThan(magnitude, Vector512.Create(_smallestNormal));
        Vector512<uint> code = Vector512.Min(
            Vector512.ConditionalSelect(isSmall, small, normal), Vector512.Create(_largest));
        Vector512<uint> isNaN = Vector512.GreaterThan(magnitude, Vector512.Create(Infinity));
        return Vector512.ConditionalSelect(isNaN, Vector512.Create(_nan), code) | sign;
    }

    /// <summary>The value of a code, exactly; what lies above <c>largest</c> is NaN, or infinity where it is the first
    /// such code and not NaN's.</summary>
    public float Decode(uint code)
    {
        uint magnitude = code & (_signMask - 1);
        int exponent = (int)(magnitude >> _mantissaBits);
        int mantissa = (int)(magnitude & ((1u << _mantissaBits) - 1));
        float value = magnitude > _largest
            ? magnitude == _largest + 1 && magnitude != _nan ? float.PositiveInfinity : float.NaN
            : exponent == 0
                ? MathF.ScaleB(mantissa, 1 - _bias - _mantissaBits)
                : MathF.ScaleB((1 << _mantissaBits) + mantissa, exponent - _bias - _mantissaBits);
        return (code & _signMask) != 0 ? -value : value;
    }

    /// <summary>Values of all codes.</summary>
    public float[] Table()
    {
        var values = new float[Codes];
        for (int code = 0; code < values.Length; code++)
        {
            values[code] = Decode((uint)code);
        }

        return values;
    }
}
