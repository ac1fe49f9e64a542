using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Krewe.Model.Tensors;

namespace Krewe.Model.Precision;

/// <summary>Runs of quantised elements by element type: codes = values / scale, values = codes * scale.</summary>
internal static unsafe class QuantizedElements
{
    /// <summary>Largest finite value of an element type.</summary>
    /// <exception cref="ArgumentException">It is none that is quantised to.</exception>
    public static float Max(DType element) => element switch
    {
        DType.Float8E4M3 => Float8Format.E4M3Max,
        DType.Float8E5M2 => Float8Format.E5M2Max,
        DType.Float12E5M6 => Float12Format.Max,
        _ => throw Unknown(element),
    };

    /// <summary>Value of every code of an element type.</summary>
    public static ReadOnlySpan<float> Table(DType element) => element switch
    {
        DType.Float8E4M3 => Float8Format.E4M3Table,
        DType.Float8E5M2 => Float8Format.E5M2Table,
        DType.Float12E5M6 => Float12Format.Table,
        _ => throw Unknown(element),
    };

    /// <summary>The code of <paramref name="value"/>.</summary>
    public static uint Encode(DType element, float value) => FormatOf(element).Encode(value);

    /// <summary>codes[i] = code of values[i] / scale; the quotient is taken in float32 before rounding.</summary>
    /// <param name="element">Type of the codes.</param>
    /// <param name="values">Values.</param>
    /// <param name="codes">As many codes, one or two bytes each.</param>
    /// <param name="scale">Dequantisation multiplier.</param>
    public static void Encode(DType element, ReadOnlySpan<float> values, Span<byte> codes, float scale)
    {
        if (element == DType.Float12E5M6)
        {
            EncodeWords(Float12Format.E5M6, values, MemoryMarshal.Cast<byte, ushort>(codes), scale);
        }
        else
        {
            EncodeBytes(FormatOf(element), values, codes, scale);
        }
    }

    /// <summary>values[i] = value of codes[i] * scale.</summary>
    /// <param name="element">Type of the codes.</param>
    /// <param name="codes">Codes, one or two bytes each.</param>
    /// <param name="values">As many values.</param>
    /// <param name="scale">Dequantisation multiplier.</param>
    public static void Decode(DType element, ReadOnlySpan<byte> codes, Span<float> values, float scale)
    {
        if (element == DType.Float12E5M6)
        {
            ReadOnlySpan<ushort> words = MemoryMarshal.Cast<byte, ushort>(codes);
            for (int i = 0; i < words.Length; i++)
            {
                values[i] = Float12Format.Decode(words[i]) * scale;
            }
        }
        else
        {
            DecodeBytes(codes, values, Table(element), scale);
        }
    }

    /// <summary>As <see cref="Encode(DType, ReadOnlySpan{float}, Span{byte}, float)"/> for codes of one byte.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void EncodeBytes(in Minifloat format, ReadOnlySpan<float> values, Span<byte> codes, float scale)
    {
        codes = codes[..values.Length];
        Minifloat own = format;
        Vector512<float> divisor = Vector512.Create(scale);
        int i = 0;
        for (; i + 16 <= values.Length; i += 16)
        {
            Vector512<uint> code = own.Encode(Vector512.Create(values[i..]) / divisor);
            Vector256<ushort> words = Vector256.Narrow(code.GetLower(), code.GetUpper());
            Vector128.Narrow(words.GetLower(), words.GetUpper()).CopyTo(codes[i..]);
        }

        for (; i < values.Length; i++)
        {
            codes[i] = (byte)own.Encode(values[i] / scale);
        }
    }

    /// <summary>values[i] = table[codes[i]] * scale.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void DecodeBytes(
        ReadOnlySpan<byte> codes, Span<float> values, ReadOnlySpan<float> table, float scale)
    {
        values = values[..codes.Length];
        int i = 0;
        if (Avx2.IsSupported && table.Length == 256)
        {
            Vector256<float> factor = Vector256.Create(scale);
            fixed (float* entries = table)
            fixed (byte* from = codes)
            {
                for (; i + 8 <= codes.Length; i += 8)
                {
                    Vector256<int> index = Avx2.ConvertToVector256Int32(from + i);
                    (Avx2.GatherVector256(entries, index, sizeof(float)) * factor).CopyTo(values[i..]);
                }
            }
        }

        for (; i < codes.Length; i++)
        {
            values[i] = table[codes[i]] * scale;
        }
    }

    private static void EncodeWords(in Minifloat format, ReadOnlySpan<float> values, Span<ushort> codes, float scale)
    {
        codes = codes[..values.Length];
        Minifloat own = format;
        Vector512<float> divisor = Vector512.Create(scale);
        int i = 0;
        for (; i + 16 <= values.Length; i += 16)
        {
            Vector512<uint> code = own.Encode(Vector512.Create(values[i..]) / divisor);
            Vector256.Narrow(code.GetLower(), code.GetUpper()).CopyTo(codes[i..]);
        }

        for (; i < values.Length; i++)
        {
            codes[i] = (ushort)own.Encode(values[i] / scale);
        }
    }

    private static Minifloat FormatOf(DType element) => element switch
    {
        DType.Float8E4M3 => Float8Format.E4M3,
        DType.Float8E5M2 => Float8Format.E5M2,
        DType.Float12E5M6 => Float12Format.E5M6,
        _ => throw Unknown(element),
    };

    private static ArgumentException Unknown(DType element) =>
        new($"element: expected Float8E4M3, Float8E5M2 or Float12E5M6, got {element}", nameof(element));
}
