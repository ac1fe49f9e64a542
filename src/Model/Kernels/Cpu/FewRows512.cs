using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Krewe.Model.Kernels.Cpu;

/// <summary>
/// Products of one to four rows with a weight stored by output (decoding): blocks of 16 outputs by 16 inputs are
/// transposed in registers, so that sixteen chains advance together and the weight is read once, straight from memory.
/// </summary>
/// <remarks>Same bits as the blocked product: one chain of fused multiply-adds per output.</remarks>
internal static unsafe class FewRows512
{
    /// <summary>How far ahead weights are fetched, in groups of sixteen rows.</summary>
    private const int PrefetchGroups = 4;

    /// <summary>Columns [n0, n1) of a product with at most four rows.</summary>
    public static void Multiply(in Product p, int n0, int n1)
    {
        nint* a = stackalloc nint[4];
        for (int m = 0; m < p.M; m++)
        {
            a[m] = (nint)(p.A + ((nint)(p.ARows == null ? m : p.ARows[m]) * p.AStride));
        }

        int n = n0;
        switch (p.M)
        {
            case 1:
                n = Rows1(p, a, n0, n1);
                break;
            case 2:
                n = Rows2(p, a, n0, n1);
                break;
            case 3:
                n = Rows4(p, a, n0, n1, 3);
                break;
            case 4:
                n = Rows4(p, a, n0, n1, 4);
                break;
        }

        for (; n < n1; n++)
        {
            float* w = p.B + ((nint)n * p.BStride);
            for (int m = 0; m < p.M; m++)
            {
                ref float c = ref p.C[((nint)m * p.CStride) + n];
                c = Chain((float*)a[m], w, 0, p.K, p.Accumulate ? c : 0);
            }
        }
    }

    private static float Chain(float* a, float* w, int k, int end, float sum)
    {
        for (; k < end; k++)
        {
            sum = MathF.FusedMultiplyAdd(a[k], w[k], sum);
        }

        return sum;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Rows(in Product p, int n, nint* rows)
    {
        for (int i = 0; i < 16; i++)
        {
            rows[i] = (nint)(p.B + ((nint)(n + i) * p.BStride));
        }
    }

    /// <summary>Finishes the chains of a depth that is no multiple of 16, and stores.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Finish(in Product p, int m, int n, nint a, nint* rows, int k, Vector512<float> sum)
    {
        float* c = p.C + ((nint)m * p.CStride) + n;
        sum.Store(c);
        if (k < p.K)
        {
            for (int i = 0; i < 16; i++)
            {
                c[i] = Chain((float*)a, (float*)rows[i], k, p.K, c[i]);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Start(in Product p, int m, int n) =>
        p.Accumulate ? Vector512.Load(p.C + ((nint)m * p.CStride) + n) : default;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Advance(float* x, in Block16 w, Vector512<float> s)
    {
        s = Vector512.FusedMultiplyAdd(Vector512.Create(x[0]), w.V0, s);
        s = Vector512.FusedMultiplyAdd(Vector512.Create(x[1]), w.V1, s);
        s = Vector512.FusedMultiplyAdd(Vector512.Create(x[2]), w.V2, s);
        s = Vector512.FusedMultiplyAdd(Vector512.Create(x[3]), w.V3, s);
        s = Vector512.FusedMultiplyAdd(Vector512.Create(x[4]), w.V4, s);
        s = Vector512.FusedMultiplyAdd(Vector512.Create(x[5]), w.V5, s);
        s = Vector512.FusedMultiplyAdd(Vector512.Create(x[6]), w.V6, s);
        s = Vector512.FusedMultiplyAdd(Vector512.Create(x[7]), w.V7, s);
        s = Vector512.FusedMultiplyAdd(Vector512.Create(x[8]), w.V8, s);
        s = Vector512.FusedMultiplyAdd(Vector512.Create(x[9]), w.V9, s);
        s = Vector512.FusedMultiplyAdd(Vector512.Create(x[10]), w.V10, s);
        s = Vector512.FusedMultiplyAdd(Vector512.Create(x[11]), w.V11, s);
        s = Vector512.FusedMultiplyAdd(Vector512.Create(x[12]), w.V12, s);
        s = Vector512.FusedMultiplyAdd(Vector512.Create(x[13]), w.V13, s);
        s = Vector512.FusedMultiplyAdd(Vector512.Create(x[14]), w.V14, s);
        return Vector512.FusedMultiplyAdd(Vector512.Create(x[15]), w.V15, s);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch(in Product p, nint* rows, int k)
    {
        // One run of sixteen lines for each block, in the order of memory, into the second-level cache. Medians of three
        // runs on Zen 4 with 27 MB of weights, other builds running: 0.8 to 1.2 ms so, 2.3 to 3.3 ms into the first level
        // (probably its few miss buffers fill up).
        // A weight with gaps between its rows gets some useless lines.
        byte* ahead = (byte*)(rows[0] + (PrefetchGroups * 64 * (nint)p.BStride)) + (k * 64);
        for (int i = 0; i < 16; i++)
        {
            Sse.Prefetch1(ahead + (i * 64));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static int Rows1(in Product p, nint* a, int n, int n1)
    {
        nint* rows = stackalloc nint[16];
        for (; n + 16 <= n1; n += 16)
        {
            Rows(p, n, rows);
            Vector512<float> s0 = Start(p, 0, n);
            int k = 0;
            for (; k + 16 <= p.K; k += 16)
            {
                Block16 w = default;
                Prefetch(p, rows, k);
                Transpose512.Load(rows, k, ref w);
                s0 = Advance((float*)a[0] + k, w, s0);
            }

            Finish(p, 0, n, a[0], rows, k, s0);
        }

        return n;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static int Rows2(in Product p, nint* a, int n, int n1)
    {
        nint* rows = stackalloc nint[16];
        for (; n + 16 <= n1; n += 16)
        {
            Rows(p, n, rows);
            Vector512<float> s0 = Start(p, 0, n);
            Vector512<float> s1 = Start(p, 1, n);
            int k = 0;
            for (; k + 16 <= p.K; k += 16)
            {
                Block16 w = default;
                Prefetch(p, rows, k);
                Transpose512.Load(rows, k, ref w);
                s0 = Advance((float*)a[0] + k, w, s0);
                s1 = Advance((float*)a[1] + k, w, s1);
            }

            Finish(p, 0, n, a[0], rows, k, s0);
            Finish(p, 1, n, a[1], rows, k, s1);
        }

        return n;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static int Rows4(in Product p, nint* a, int n, int n1, int count)
    {
        nint* rows = stackalloc nint[16];
        nint a3 = count == 4 ? a[3] : a[2];
        for (; n + 16 <= n1; n += 16)
        {
            Rows(p, n, rows);
            Vector512<float> s0 = Start(p, 0, n);
            Vector512<float> s1 = Start(p, 1, n);
            Vector512<float> s2 = Start(p, 2, n);
            Vector512<float> s3 = Start(p, count - 1, n);
            int k = 0;
            for (; k + 16 <= p.K; k += 16)
            {
                Block16 w = default;
                Prefetch(p, rows, k);
                Transpose512.Load(rows, k, ref w);
                s0 = Advance((float*)a[0] + k, w, s0);
                s1 = Advance((float*)a[1] + k, w, s1);
                s2 = Advance((float*)a[2] + k, w, s2);
                s3 = Advance((float*)a3 + k, w, s3);
            }

            Finish(p, 0, n, a[0], rows, k, s0);
            Finish(p, 1, n, a[1], rows, k, s1);
            Finish(p, 2, n, a[2], rows, k, s2);
            if (count == 4)
            {
                Finish(p, 3, n, a3, rows, k, s3);
            }
        }

        return n;
    }
}
