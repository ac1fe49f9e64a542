using System.Numerics;
using System.Runtime.InteropServices;

namespace Krewe.Model.Precision;

/// <summary>
/// bfloat16: the upper half of a binary32. Encoding rounds to nearest, ties to even; a NaN becomes 0x7FC0.
/// </summary>
public static class BFloat16Format
{
    private const ushort QuietNaN = 0x7FC0;

    /// <summary>The nearest bfloat16 of <paramref name="value"/>.</summary>
    public static ushort Encode(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        return float.IsNaN(value) ? QuietNaN : (ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
    }

    /// <summary>The value of <paramref name="bits"/>, exactly.</summary>
    public static float Decode(ushort bits) => BitConverter.UInt32BitsToSingle((uint)bits << 16);

    /// <summary><paramref name="value"/> rounded to bfloat16 and back.</summary>
    public static float Round(float value) => Decode(Encode(value));

    /// <summary>Encodes every element.</summary>
    /// <exception cref="ArgumentException">
    /// <paramref name="destination"/> is shorter than <paramref name="source"/>.
    /// </exception>
    public static void Encode(ReadOnlySpan<float> source, Span<ushort> destination)
    {
        RequireRoom(source.Length, destination.Length);
        int width = Vector<float>.Count;
        int i = 0;
        for (; i <= source.Length - (2 * width); i += 2 * width)
        {
            Vector<uint> low = EncodeBits(new Vector<float>(source[i..]));
            Vector<uint> high = EncodeBits(new Vector<float>(source[(i + width)..]));
            Vector.Narrow(low, high).CopyTo(destination[i..]);
        }

        for (; i < source.Length; i++)
        {
            destination[i] = Encode(source[i]);
        }
    }

    /// <summary>Decodes every element.</summary>
    /// <exception cref="ArgumentException">
    /// <paramref name="destination"/> is shorter than <paramref name="source"/>.
    /// </exception>
    public static void Decode(ReadOnlySpan<ushort> source, Span<float> destination)
    {
        RequireRoom(source.Length, destination.Length);
        Span<uint> bits = MemoryMarshal.Cast<float, uint>(destination);
        int width = Vector<ushort>.Count;
        int i = 0;
        for (; i <= source.Length - width; i += width)
        {
            Vector.Widen(new Vector<ushort>(source[i..]), out Vector<uint> low, out Vector<uint> high);
            (low << 16).CopyTo(bits[i..]);
            (high << 16).CopyTo(bits[(i + (width / 2))..]);
        }

        for (; i < source.Length; i++)
        {
            bits[i] = (uint)source[i] << 16;
        }
    }

    private static Vector<uint> EncodeBits(Vector<float> values)
    {
        Vector<uint> bits = Vector.AsVectorUInt32(values);
        Vector<uint> rounded = (bits + new Vector<uint>(0x7FFF) + ((bits >> 16) & Vector<uint>.One)) >> 16;
        Vector<uint> isNumber = Vector.AsVectorUInt32(Vector.Equals(values, values));
        return Vector.ConditionalSelect(isNumber, rounded, new Vector<uint>(QuietNaN));
    }

    private static void RequireRoom(int source, int destination)
    {
        if (destination < source)
        {
            throw new ArgumentException($"{source} elements do not fit into {destination}");
        }
    }
}
