using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Krewe.Model.Kernels.Cpu;

/// <summary>Tiles of up to 6 rows by 16 columns: 12 accumulators in 16 registers (AVX2 with FMA).</summary>
/// <remarks>The loops are unrolled by hand so that the JIT keeps every accumulator in a register.</remarks>
internal unsafe struct MicroKernel256 : IMicroKernel
{
    /// <inheritdoc/>
    public static int Columns => 16;

    /// <inheritdoc/>
    public static int PanelRows(int rows) => rows switch
    {
        >= 6 => 6,
        >= 4 => 4,
        >= 2 => 2,
        _ => 1,
    };

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Multiply(
        int rows, float* a, nint aStep, float* b, nint bStep, int depth, float* c, nint cStep, bool load)
    {
        switch (rows)
        {
            case 6:
                Rows6(a, aStep, b, bStep, depth, c, cStep, load);
                break;
            case 4:
                Rows4(a, aStep, b, bStep, depth, c, cStep, load);
                break;
            case 2:
                Rows2(a, aStep, b, bStep, depth, c, cStep, load);
                break;
            case 1:
                Rows1(a, aStep, b, bStep, depth, c, cStep, load);
                break;
            default:
                throw new ArgumentOutOfRangeException(nameof(rows));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Rows6(
        float* a, nint aStep, float* b, nint bStep, int depth, float* c, nint cStep, bool load)
    {
        Vector256<float> c00 = default, c01 = default;
        Vector256<float> c10 = default, c11 = default;
        Vector256<float> c20 = default, c21 = default;
        Vector256<float> c30 = default, c31 = default;
        Vector256<float> c40 = default, c41 = default;
        Vector256<float> c50 = default, c51 = default;
        if (load)
        {
            c00 = Vector256.Load(c);
            c01 = Vector256.Load(c + 8);
            c10 = Vector256.Load(c + cStep);
            c11 = Vector256.Load(c + cStep + 8);
            c20 = Vector256.Load(c + (2 * cStep));
            c21 = Vector256.Load(c + (2 * cStep) + 8);
            c30 = Vector256.Load(c + (3 * cStep));
            c31 = Vector256.Load(c + (3 * cStep) + 8);
            c40 = Vector256.Load(c + (4 * cStep));
            c41 = Vector256.Load(c + (4 * cStep) + 8);
            c50 = Vector256.Load(c + (5 * cStep));
            c51 = Vector256.Load(c + (5 * cStep) + 8);
        }

        for (; depth > 0; depth--)
        {
            Vector256<float> b0 = Vector256.Load(b);
            Vector256<float> b1 = Vector256.Load(b + 8);
            Vector256<float> a0 = Vector256.Create(a[0]);
            c00 = Vector256.FusedMultiplyAdd(a0, b0, c00);
            c01 = Vector256.FusedMultiplyAdd(a0, b1, c01);
            Vector256<float> a1 = Vector256.Create(a[1]);
            c10 = Vector256.FusedMultiplyAdd(a1, b0, c10);
            c11 = Vector256.FusedMultiplyAdd(a1, b1, c11);
            Vector256<float> a2 = Vector256.Create(a[2]);
            c20 = Vector256.FusedMultiplyAdd(a2, b0, c20);
            c21 = Vector256.FusedMultiplyAdd(a2, b1, c21);
            Vector256<float> a3 = Vector256.Create(a[3]);
            c30 = Vector256.FusedMultiplyAdd(a3, b0, c30);
            c31 = Vector256.FusedMultiplyAdd(a3, b1, c31);
            Vector256<float> a4 = Vector256.Create(a[4]);
            c40 = Vector256.FusedMultiplyAdd(a4, b0, c40);
            c41 = Vector256.FusedMultiplyAdd(a4, b1, c41);
            Vector256<float> a5 = Vector256.Create(a[5]);
            c50 = Vector256.FusedMultiplyAdd(a5, b0, c50);
            c51 = Vector256.FusedMultiplyAdd(a5, b1, c51);
            a += aStep;
            b += bStep;
        }

        c00.Store(c);
        c01.Store(c + 8);
        c10.Store(c + cStep);
        c11.Store(c + cStep + 8);
        c20.Store(c + (2 * cStep));
        c21.Store(c + (2 * cStep) + 8);
        c30.Store(c + (3 * cStep));
        c31.Store(c + (3 * cStep) + 8);
        c40.Store(c + (4 * cStep));
        c41.Store(c + (4 * cStep) + 8);
        c50.Store(c + (5 * cStep));
        c51.Store(c + (5 * cStep) + 8);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Rows4(
        float* a, nint aStep, float* b, nint bStep, int depth, float* c, nint cStep, bool load)
    {
        Vector256<float> c00 = default, c01 = default;
        Vector256<float> c10 = default, c11 = default;
        Vector256<float> c20 = default, c21 = default;
        Vector256<float> c30 = default, c31 = default;
        if (load)
        {
            c00 = Vector256.Load(c);
            c01 = Vector256.Load(c + 8);
            c10 = Vector256.Load(c + cStep);
            c11 = Vector256.Load(c + cStep + 8);
            c20 = Vector256.Load(c + (2 * cStep));
            c21 = Vector256.Load(c + (2 * cStep) + 8);
            c30 = Vector256.Load(c + (3 * cStep));
            c31 = Vector256.Load(c + (3 * cStep) + 8);
        }

        for (; depth > 0; depth--)
        {
            Vector256<float> b0 = Vector256.Load(b);
            Vector256<float> b1 = Vector256.Load(b + 8);
            Vector256<float> a0 = Vector256.Create(a[0]);
            c00 = Vector256.FusedMultiplyAdd(a0, b0, c00);
            c01 = Vector256.FusedMultiplyAdd(a0, b1, c01);
            Vector256<float> a1 = Vector256.Create(a[1]);
            c10 = Vector256.FusedMultiplyAdd(a1, b0, c10);
            c11 = Vector256.FusedMultiplyAdd(a1, b1, c11);
            Vector256<float> a2 = Vector256.Create(a[2]);
            c20 = Vector256.FusedMultiplyAdd(a2, b0, c20);
            c21 = Vector256.FusedMultiplyAdd(a2, b1, c21);
            Vector256<float> a3 = Vector256.Create(a[3]);
            c30 = Vector256.FusedMultiplyAdd(a3, b0, c30);
            c31 = Vector256.FusedMultiplyAdd(a3, b1, c31);
            a += aStep;
            b += bStep;
        }

        c00.Store(c);
        c01.Store(c + 8);
        c10.Store(c + cStep);
        c11.Store(c + cStep + 8);
        c20.Store(c + (2 * cStep));
        c21.Store(c + (2 * cStep) + 8);
        c30.Store(c + (3 * cStep));
        c31.Store(c + (3 * cStep) + 8);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Rows2(
        float* a, nint aStep, float* b, nint bStep, int depth, float* c, nint cStep, bool load)
    {
        Vector256<float> c00 = default, c01 = default;
        Vector256<float> c10 = default, c11 = default;
        if (load)
        {
            c00 = Vector256.Load(c);
            c01 = Vector256.Load(c + 8);
            c10 = Vector256.Load(c + cStep);
            c11 = Vector256.Load(c + cStep + 8);
        }

        for (; depth > 0; depth--)
        {
            Vector256<float> b0 = Vector256.Load(b);
            Vector256<float> b1 = Vector256.Load(b + 8);
            Vector256<float> a0 = Vector256.Create(a[0]);
            c00 = Vector256.FusedMultiplyAdd(a0, b0, c00);
            c01 = Vector256.FusedMultiplyAdd(a0, b1, c01);
            Vector256<float> a1 = Vector256.Create(a[1]);
            c10 = Vector256.FusedMultiplyAdd(a1, b0, c10);
            c11 = Vector256.FusedMultiplyAdd(a1, b1, c11);
            a += aStep;
            b += bStep;
        }

        c00.Store(c);
        c01.Store(c + 8);
        c10.Store(c + cStep);
        c11.Store(c + cStep + 8);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Rows1(
        float* a, nint aStep, float* b, nint bStep, int depth, float* c, nint cStep, bool load)
    {
        Vector256<float> c00 = default, c01 = default;
        if (load)
        {
            c00 = Vector256.Load(c);
            c01 = Vector256.Load(c + 8);
        }

        for (; depth > 0; depth--)
        {
            Vector256<float> b0 = Vector256.Load(b);
            Vector256<float> b1 = Vector256.Load(b + 8);
            Vector256<float> a0 = Vector256.Create(a[0]);
            c00 = Vector256.FusedMultiplyAdd(a0, b0, c00);
            c01 = Vector256.FusedMultiplyAdd(a0, b1, c01);
            a += aStep;
            b += bStep;
        }

        c00.Store(c);
        c01.Store(c + 8);
    }
}
