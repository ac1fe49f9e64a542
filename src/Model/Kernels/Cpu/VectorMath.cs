using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Krewe.Model.Kernels.Cpu;

/// <summary>
/// Vector arithmetic written once over 512-bit vectors: on narrower machines the JIT splits them, lane by lane, so the
/// bits are the same on every instruction set.
/// </summary>
internal static unsafe class VectorMath
{
    /// <summary>Lanes of a vector.</summary>
    public const int Width = 16;

    private const float Log2E = 1.44269504f;
    private const float Ln2High = 0.693359375f;
    private const float Ln2Low = -2.12194440e-4f;
    private const float RoundingShift = 12582912f;

    /// <summary>Loads 16 floats, or <paramref name="left"/> where fewer are left; the other lanes are 0.</summary>
    /// <remarks>No path makes a call where masks exist: a call in a loop would force every vector through the stack.
    /// </remarks>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Load(float* from, nint left) =>
        left >= Width ? Vector512.Load(from) : LoadPart(from, left);

    /// <summary>Stores 16 floats, or <paramref name="left"/> where fewer are left.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Vector512<float> value, float* to, nint left)
    {
        if (left >= Width)
        {
            value.Store(to);
        }
        else
        {
            StorePart(value, to, left);
        }
    }

    /// <summary>
    /// e^x, within 2 units in the last place, also where the result is subnormal; -inf gives 0, above 88.73 +inf, NaN
    /// stays.
    /// </summary>
    /// <remarks>Cody-Waite reduction by multiples of ln 2 and the Cephes polynomial; the scaling is done in two steps
    /// so that neither factor leaves the normal range.</remarks>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Exp(Vector512<float> x)
    {
        // This order of operands keeps a NaN of x.
        x = Vector512.MaxNative(Vector512.Create(-105f), x);
        x = Vector512.MinNative(Vector512.Create(89f), x);
        Vector512<float> shift = Vector512.Create(RoundingShift);
        Vector512<float> n = Vector512.FusedMultiplyAdd(x, Vector512.Create(Log2E), shift) - shift;
        Vector512<float> r = Vector512.FusedMultiplyAdd(n, Vector512.Create(-Ln2High), x);
        r = Vector512.FusedMultiplyAdd(n, Vector512.Create(-Ln2Low), r);

        Vector512<float> p = Vector512.Create(1.9875691500e-4f);
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(1.3981999507e-3f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(8.3334519073e-3f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(4.1665795894e-2f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(1.6666665459e-1f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(5.0000001201e-1f));
        p = Vector512.FusedMultiplyAdd(p, r * r, r) + Vector512<float>.One;

        if (Avx512F.IsSupported)
        {
            // p * 2^n in one step, rounded once: the same bits as below, where the first factor is exact.
            return Avx512F.Scale(p, n);
        }

        Vector512<int> whole = Vector512.ConvertToInt32Native(n);
        Vector512<int> half = whole >> 1;
        return p * PowerOfTwo(half) * PowerOfTwo(whole - half);
    }

    /// <summary>e^x with the bits of the vector form.</summary>
    public static float Exp(float x) => Exp(Vector512.Create(x)).ToScalar();

    /// <summary>1 / (1 + e^-x).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Sigmoid(Vector512<float> x) =>
        Vector512<float>.One / (Vector512<float>.One + Exp(-x));

    /// <summary>Sum of the lanes: halves are added until one lane is left.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Sum(Vector512<float> v)
    {
        Vector256<float> half = v.GetLower() + v.GetUpper();
        Vector128<float> quarter = half.GetLower() + half.GetUpper();
        return quarter.GetElement(0) + quarter.GetElement(2) + (quarter.GetElement(1) + quarter.GetElement(3));
    }

    /// <summary>Largest lane.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Max(Vector512<float> v)
    {
        Vector256<float> half = Vector256.Max(v.GetLower(), v.GetUpper());
        Vector128<float> quarter = Vector128.Max(half.GetLower(), half.GetUpper());
        return MathF.Max(
            MathF.Max(quarter.GetElement(0), quarter.GetElement(1)),
            MathF.Max(quarter.GetElement(2), quarter.GetElement(3)));
    }

    /// <summary>Dot product over four running sums.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static float Dot(float* a, float* b, int count)
    {
        Vector512<float> s0 = default, s1 = default, s2 = default, s3 = default;
        int i = 0;
        for (; i + 64 <= count; i += 64)
        {
            s0 = Vector512.FusedMultiplyAdd(Vector512.Load(a + i), Vector512.Load(b + i), s0);
            s1 = Vector512.FusedMultiplyAdd(Vector512.Load(a + i + 16), Vector512.Load(b + i + 16), s1);
            s2 = Vector512.FusedMultiplyAdd(Vector512.Load(a + i + 32), Vector512.Load(b + i + 32), s2);
            s3 = Vector512.FusedMultiplyAdd(Vector512.Load(a + i + 48), Vector512.Load(b + i + 48), s3);
        }

        for (; i < count; i += Width)
        {
            s0 = Vector512.FusedMultiplyAdd(Load(a + i, count - i), Load(b + i, count - i), s0);
        }

        return Sum(s0 + s1 + (s2 + s3));
    }

    /// <summary>Largest of the values; -inf for none.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static float Max(float* values, int count)
    {
        float max = float.NegativeInfinity;
        int i = 0;
        if (count >= Width)
        {
            Vector512<float> m0 = Vector512.Load(values);
            Vector512<float> m1 = m0;
            for (i = Width; i + 32 <= count; i += 32)
            {
                m0 = Vector512.MaxNative(m0, Vector512.Load(values + i));
                m1 = Vector512.MaxNative(m1, Vector512.Load(values + i + 16));
            }

            max = Max(Vector512.MaxNative(m0, m1));
        }

        for (; i < count; i++)
        {
            max = MathF.Max(max, values[i]);
        }

        return max;
    }

    /// <summary>
    /// values[i] = exp(scale * values[i] - shift) for i below <paramref name="count"/>, where <paramref name="store"/>;
    /// gives the sum. The product is rounded on its own, so that the largest value gives exactly 1.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static float ExpSum(float* values, int count, float scale, float shift, bool store = true)
    {
        Vector512<float> factor = Vector512.Create(scale);
        Vector512<float> maximum = Vector512.Create(shift);
        double sum = 0;
        for (int i = 0; i < count;)
        {
            // Partial sums of 4096 terms keep the error of a large vocabulary's sum small.
            int end = Math.Min(count, i + 4096);
            Vector512<float> s = default;
            for (; i + Width <= end; i += Width)
            {
                Vector512<float> e = Exp((Vector512.Load(values + i) * factor) - maximum);
                if (store)
                {
                    e.Store(values + i);
                }

                s += e;
            }

            if (i < end)
            {
                int left = end - i;
                Vector512<float> e = Exp((LoadPart(values + i, left) * factor) - maximum);
                if (store)
                {
                    StorePart(e, values + i, left);
                }

                s += FirstLanes(e, left);
                i = end;
            }

            sum += Sum(s);
        }

        return (float)sum;
    }

    /// <summary>values *= factor.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Scale(float* values, int count, float factor)
    {
        Vector512<float> f = Vector512.Create(factor);
        for (int i = 0; i < count; i += Width)
        {
            Store(Load(values + i, count - i) * f, values + i, count - i);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> PowerOfTwo(Vector512<int> n) => ((n + Vector512.Create(127)) << 23).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> FirstLanes(Vector512<float> v, int count) =>
        Vector512.ConditionalSelect(Lanes(count), v, default);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> LoadPart(float* from, nint left)
    {
        if (Avx512F.IsSupported)
        {
            return Avx512F.MaskLoad(from, Lanes(left), default);
        }

        if (Avx.IsSupported)
        {
            Vector512<float> lanes = Lanes(left);
            return Vector512.Create(
                Avx.MaskLoad(from, lanes.GetLower()), Avx.MaskLoad(from + 8, lanes.GetUpper()));
        }

        return LoadOneByOne(from, left);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StorePart(Vector512<float> value, float* to, nint left)
    {
        if (Avx512F.IsSupported)
        {
            Avx512F.MaskStore(to, Lanes(left), value);
        }
        else if (Avx.IsSupported)
        {
            Vector512<float> lanes = Lanes(left);
            Avx.MaskStore(to, lanes.GetLower(), value.GetLower());
            Avx.MaskStore(to + 8, lanes.GetUpper(), value.GetUpper());
        }
        else
        {
            StoreOneByOne(value, to, left);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Lanes(nint count) =>
        Vector512.LessThan(Vector512<int>.Indices, Vector512.Create((int)count)).AsSingle();

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static Vector512<float> LoadOneByOne(float* from, nint left)
    {
        Vector512<float> value = default;
        float* v = (float*)&value;
        for (nint i = 0; i < left; i++)
        {
            v[i] = from[i];
        }

        return value;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void StoreOneByOne(Vector512<float> value, float* to, nint left)
    {
        float* v = (float*)&value;
        for (nint i = 0; i < left; i++)
        {
            to[i] = v[i];
        }
    }
}
