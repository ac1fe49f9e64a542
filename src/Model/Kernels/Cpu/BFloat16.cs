using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Krewe.Model.Kernels.Cpu;

/// <summary>Conversion between float32 vectors and stored bfloat16.</summary>
internal static unsafe class BFloat16
{
    /// <summary>
    /// Widens 16 stored values, or <paramref name="left"/> where fewer are left; the other lanes are 0.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Load(ushort* from, int left)
    {
        Vector256<ushort> stored = left >= VectorMath.Width ? Vector256.Load(from) : LoadPart(from, left);
        (Vector256<uint> low, Vector256<uint> high) = Vector256.Widen(stored);
        return (Vector512.Create(low, high) << 16).AsSingle();
    }

    /// <summary>Rounds to nearest, ties to even (a NaN stays one), and stores.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Vector512<float> value, ushort* to, int left)
    {
        Vector512<uint> result = Encode(value);
        Vector256<ushort> stored = Vector256.Narrow(result.GetLower(), result.GetUpper());
        if (left >= VectorMath.Width)
        {
            stored.Store(to);
        }
        else
        {
            StorePart(stored, to, left);
        }
    }

    /// <summary>Rounds to nearest, ties to even (a NaN stays one), and widens again.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Round(Vector512<float> value) => (Encode(value) << 16).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<uint> Encode(Vector512<float> value)
    {
        Vector512<uint> bits = value.AsUInt32();
        Vector512<uint> upper = bits >> 16;
        Vector512<uint> rounded = (bits + Vector512.Create(0x7FFFu) + (upper & Vector512<uint>.One)) >> 16;
        Vector512<uint> ordered = Vector512.Equals(value, value).AsUInt32();
        return Vector512.ConditionalSelect(ordered, rounded, upper | Vector512.Create(0x40u));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<ushort> LoadPart(ushort* from, int left) =>
        Avx512BW.VL.IsSupported
            ? Avx512BW.VL.MaskLoad(from, Lanes(left), default)
            : LoadOneByOne(from, left);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StorePart(Vector256<ushort> value, ushort* to, int left)
    {
        if (Avx512BW.VL.IsSupported)
        {
            Avx512BW.VL.MaskStore(to, Lanes(left), value);
        }
        else
        {
            StoreOneByOne(value, to, left);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<ushort> Lanes(int count) =>
        Vector256.LessThan(Vector256<ushort>.Indices, Vector256.Create((ushort)count));

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static Vector256<ushort> LoadOneByOne(ushort* from, int left)
    {
        Vector256<ushort> value = default;
        for (int i = 0; i < left; i++)
        {
            ((ushort*)&value)[i] = from[i];
        }

        return value;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void StoreOneByOne(Vector256<ushort> value, ushort* to, int left)
    {
        for (int i = 0; i < left; i++)
        {
            to[i] = ((ushort*)&value)[i];
        }
    }
}
