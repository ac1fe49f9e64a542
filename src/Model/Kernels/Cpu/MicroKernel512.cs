using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Krewe.Model.Kernels.Cpu;

/// <summary>
/// Tiles of up to 12 rows by 32 columns: 24 accumulators, 2 right vectors and a broadcast in 32 registers (AVX-512).
/// </summary>
/// <remarks>The loops are unrolled by hand so that the JIT keeps every accumulator in a register.</remarks>
internal unsafe partial struct MicroKernel512 : IMicroKernel
{
    /// <inheritdoc/>
    public static int Columns => 32;

    /// <inheritdoc/>
    public static int PanelRows(int rows) => rows switch
    {
        >= 12 => 12,
        >= 8 => 8,
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
            case 12:
                Rows12(a, aStep, b, bStep, depth, c, cStep, load);
                break;
            case 8:
                Rows8(a, aStep, b, bStep, depth, c, cStep, load);
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
    private static void Rows12(
        float* a, nint aStep, float* b, nint bStep, int depth, float* c, nint cStep, bool load)
    {
        Vector512<float> c00 = default, c01 = default;
        Vector512<float> c10 = default, c11 = default;
        Vector512<float> c20 = default, c21 = default;
        Vector512<float> c30 = default, c31 = default;
        Vector512<float> c40 = default, c41 = default;
        Vector512<float> c50 = default, c51 = default;
        Vector512<float> c60 = default, c61 = default;
        Vector512<float> c70 = default, c71 = default;
        Vector512<float> c80 = default, c81 = default;
        Vector512<float> c90 = default, c91 = default;
        Vector512<float> ca0 = default, ca1 = default;
        Vector512<float> cb0 = default, cb1 = default;
        if (load)
        {
            c00 = Vector512.Load(c);
            c01 = Vector512.Load(c + 16);
            c10 = Vector512.Load(c + cStep);
            c11 = Vector512.Load(c + cStep + 16);
            c20 = Vector512.Load(c + (2 * cStep));
            c21 = Vector512.Load(c + (2 * cStep) + 16);
            c30 = Vector512.Load(c + (3 * cStep));
            c31 = Vector512.Load(c + (3 * cStep) + 16);
            c40 = Vector512.Load(c + (4 * cStep));
            c41 = Vector512.Load(c + (4 * cStep) + 16);
            c50 = Vector512.Load(c + (5 * cStep));
            c51 = Vector512.Load(c + (5 * cStep) + 16);
            c60 = Vector512.Load(c + (6 * cStep));
            c61 = Vector512.Load(c + (6 * cStep) + 16);
            c70 = Vector512.Load(c + (7 * cStep));
            c71 = Vector512.Load(c + (7 * cStep) + 16);
            c80 = Vector512.Load(c + (8 * cStep));
            c81 = Vector512.Load(c + (8 * cStep) + 16);
            c90 = Vector512.Load(c + (9 * cStep));
            c91 = Vector512.Load(c + (9 * cStep) + 16);
            ca0 = Vector512.Load(c + (10 * cStep));
            ca1 = Vector512.Load(c + (10 * cStep) + 16);
            cb0 = Vector512.Load(c + (11 * cStep));
            cb1 = Vector512.Load(c + (11 * cStep) + 16);
        }

        for (; depth > 0; depth--)
        {
            Vector512<float> b0 = Vector512.Load(b);
            Vector512<float> b1 = Vector512.Load(b + 16);
            Vector512<float> a0 = Vector512.Create(a[0]);
            c00 = Vector512.FusedMultiplyAdd(a0, b0, c00);
            c01 = Vector512.FusedMultiplyAdd(a0, b1, c01);
            Vector512<float> a1 = Vector512.Create(a[1]);
            c10 = Vector512.FusedMultiplyAdd(a1, b0, c10);
            c11 = Vector512.FusedMultiplyAdd(a1, b1, c11);
            Vector512<float> a2 = Vector512.Create(a[2]);
            c20 = Vector512.FusedMultiplyAdd(a2, b0, c20);
            c21 = Vector512.FusedMultiplyAdd(a2, b1, c21);
            Vector512<float> a3 = Vector512.Create(a[3]);
            c30 = Vector512.FusedMultiplyAdd(a3, b0, c30);
            c31 = Vector512.FusedMultiplyAdd(a3, b1, c31);
            Vector512<float> a4 = Vector512.Create(a[4]);
            c40 = Vector512.FusedMultiplyAdd(a4, b0, c40);
            c41 = Vector512.FusedMultiplyAdd(a4, b1, c41);
            Vector512<float> a5 = Vector512.Create(a[5]);
            c50 = Vector512.FusedMultiplyAdd(a5, b0, c50);
            c51 = Vector512.FusedMultiplyAdd(a5, b1, c51);
            Vector512<float> a6 = Vector512.Create(a[6]);
            c60 = Vector512.FusedMultiplyAdd(a6, b0, c60);
            c61 = Vector512.FusedMultiplyAdd(a6, b1, c61);
            Vector512<float> a7 = Vector512.Create(a[7]);
            c70 = Vector512.FusedMultiplyAdd(a7, b0, c70);
            c71 = Vector512.FusedMultiplyAdd(a7, b1, c71);
            Vector512<float> a8 = Vector512.Create(a[8]);
            c80 = Vector512.FusedMultiplyAdd(a8, b0, c80);
            c81 = Vector512.FusedMultiplyAdd(a8, b1, c81);
            Vector512<float> a9 = Vector512.Create(a[9]);
            c90 = Vector512.FusedMultiplyAdd(a9, b0, c90);
            c91 = Vector512.FusedMultiplyAdd(a9, b1, c91);
            Vector512<float> aa = Vector512.Create(a[10]);
            ca0 = Vector512.FusedMultiplyAdd(aa, b0, ca0);
            ca1 = Vector512.FusedMultiplyAdd(aa, b1, ca1);
            Vector512<float> ab = Vector512.Create(a[11]);
            cb0 = Vector512.FusedMultiplyAdd(ab, b0, cb0);
            cb1 = Vector512.FusedMultiplyAdd(ab, b1, cb1);
            a += aStep;
            b += bStep;
        }

        c00.Store(c);
        c01.Store(c + 16);
        c10.Store(c + cStep);
        c11.Store(c + cStep + 16);
        c20.Store(c + (2 * cStep));
        c21.Store(c + (2 * cStep) + 16);
        c30.Store(c + (3 * cStep));
        c31.Store(c + (3 * cStep) + 16);
        c40.Store(c + (4 * cStep));
        c41.Store(c + (4 * cStep) + 16);
        c50.Store(c + (5 * cStep));
        c51.Store(c + (5 * cStep) + 16);
        c60.Store(c + (6 * cStep));
        c61.Store(c + (6 * cStep) + 16);
        c70.Store(c + (7 * cStep));
        c71.Store(c + (7 * cStep) + 16);
        c80.Store(c + (8 * cStep));
        c81.Store(c + (8 * cStep) + 16);
        c90.Store(c + (9 * cStep));
        c91.Store(c + (9 * cStep) + 16);
        ca0.Store(c + (10 * cStep));
        ca1.Store(c + (10 * cStep) + 16);
        cb0.Store(c + (11 * cStep));
        cb1.Store(c + (11 * cStep) + 16);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Rows8(
        float* a, nint aStep, float* b, nint bStep, int depth, float* c, nint cStep, bool load)
    {
        Vector512<float> c00 = default, c01 = default;
        Vector512<float> c10 = default, c11 = default;
        Vector512<float> c20 = default, c21 = default;
        Vector512<float> c30 = default, c31 = default;
        Vector512<float> c40 = default, c41 = default;
        Vector512<float> c50 = default, c51 = default;
        Vector512<float> c60 = default, c61 = default;
        Vector512<float> c70 = default, c71 = default;
        if (load)
        {
            c00 = Vector512.Load(c);
            c01 = Vector512.Load(c + 16);
            c10 = Vector512.Load(c + cStep);
            c11 = Vector512.Load(c + cStep + 16);
            c20 = Vector512.Load(c + (2 * cStep));
            c21 = Vector512.Load(c + (2 * cStep) + 16);
            c30 = Vector512.Load(c + (3 * cStep));
            c31 = Vector512.Load(c + (3 * cStep) + 16);
            c40 = Vector512.Load(c + (4 * cStep));
            c41 = Vector512.Load(c + (4 * cStep) + 16);
            c50 = Vector512.Load(c + (5 * cStep));
            c51 = Vector512.Load(c + (5 * cStep) + 16);
            c60 = Vector512.Load(c + (6 * cStep));
            c61 = Vector512.Load(c + (6 * cStep) + 16);
            c70 = Vector512.Load(c + (7 * cStep));
            c71 = Vector512.Load(c + (7 * cStep) + 16);
        }

        for (; depth > 0; depth--)
        {
            Vector512<float> b0 = Vector512.Load(b);
            Vector512<float> b1 = Vector512.Load(b + 16);
            Vector512<float> a0 = Vector512.Create(a[0]);
            c00 = Vector512.FusedMultiplyAdd(a0, b0, c00);
            c01 = Vector512.FusedMultiplyAdd(a0, b1, c01);
            Vector512<float> a1 = Vector512.Create(a[1]);
            c10 = Vector512.FusedMultiplyAdd(a1, b0, c10);
            c11 = Vector512.FusedMultiplyAdd(a1, b1, c11);
            Vector512<float> a2 = Vector512.Create(a[2]);
            c20 = Vector512.FusedMultiplyAdd(a2, b0, c20);
            c21 = Vector512.FusedMultiplyAdd(a2, b1, c21);
            Vector512<float> a3 = Vector512.Create(a[3]);
            c30 = Vector512.FusedMultiplyAdd(a3, b0, c30);
            c31 = Vector512.FusedMultiplyAdd(a3, b1, c31);
            Vector512<float> a4 = Vector512.Create(a[4]);
            c40 = Vector512.FusedMultiplyAdd(a4, b0, c40);
            c41 = Vector512.FusedMultiplyAdd(a4, b1, c41);
            Vector512<float> a5 = Vector512.Create(a[5]);
            c50 = Vector512.FusedMultiplyAdd(a5, b0, c50);
            c51 = Vector512.FusedMultiplyAdd(a5, b1, c51);
            Vector512<float> a6 = Vector512.Create(a[6]);
            c60 = Vector512.FusedMultiplyAdd(a6, b0, c60);
            c61 = Vector512.FusedMultiplyAdd(a6, b1, c61);
            Vector512<float> a7 = Vector512.Create(a[7]);
            c70 = Vector512.FusedMultiplyAdd(a7, b0, c70);
            c71 = Vector512.FusedMultiplyAdd(a7, b1, c71);
            a += aStep;
            b += bStep;
        }

        c00.Store(c);
        c01.Store(c + 16);
        c10.Store(c + cStep);
        c11.Store(c + cStep + 16);
        c20.Store(c + (2 * cStep));
        c21.Store(c + (2 * cStep) + 16);
        c30.Store(c + (3 * cStep));
        c31.Store(c + (3 * cStep) + 16);
        c40.Store(c + (4 * cStep));
        c41.Store(c + (4 * cStep) + 16);
        c50.Store(c + (5 * cStep));
        c51.Store(c + (5 * cStep) + 16);
        c60.Store(c + (6 * cStep));
        c61.Store(c + (6 * cStep) + 16);
        c70.Store(c + (7 * cStep));
        c71.Store(c + (7 * cStep) + 16);
    }
}
