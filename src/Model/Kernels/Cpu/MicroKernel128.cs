using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Krewe.Model.Kernels.Cpu;

/// <summary>Tiles of up to 4 rows by 8 columns, for machines with 128-bit vectors.</summary>
/// <remarks>The loops are unrolled by hand so that the JIT keeps every accumulator in a register.</remarks>
internal unsafe struct MicroKernel128 : IMicroKernel
{
    /// <inheritdoc/>
    public static int Columns => 8;

    /// <inheritdoc/>
    public static int PanelRows(int rows) => rows switch
    {
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
    private static void Rows4(
        float* a, nint aStep, float* b, nint bStep, int depth, float* c, nint cStep, bool load)
    {
        Vector128<float> c00 = default, c01 = default;
        Vector128<float> c10 = default, c11 = default;
        Vector128<float> c20 = default, c21 = default;
        Vector128<float> c30 = default, c31 = default;
        if (load)
        {
            c00 = Vector128.Load(c);
            c01 = Vector128.Load(c + 4);
            c10 = Vector128.Load(c + cStep);
            c11 = Vector128.Load(c + cStep + 4);
            c20 = Vector128.Load(c + (2 * cStep));
            c21 = Vector128.Load(c + (2 * cStep) + 4);
            c30 = Vector128.Load(c + (3 * cStep));
            c31 = Vector128.Load(c + (3 * cStep) + 4);
        }

        for (; depth > 0; depth--)
        {
            Vector128<float> b0 = Vector128.Load(b);
            Vector128<float> b1 = Vector128.Load(b + 4);
            Vector128<float> a0 = Vector128.Create(a[0]);
            c00 = Vector128.FusedMultiplyAdd(a0, b0, c00);
            c01 = Vector128.FusedMultiplyAdd(a0, b1, c01);
            Vector128<float> a1 = Vector128.Create(a[1]);
            c10 = Vector128.FusedMultiplyAdd(a1, b0, c10);
            c11 = Vector128.FusedMultiplyAdd(a1, b1, c11);
            Vector128<float> a2 = Vector128.Create(a[2]);
            c20 = Vector128.FusedMultiplyAdd(a2, b0, c20);
            c21 = Vector128.FusedMultiplyAdd(a2, b1, c21);
            Vector128<float> a3 = Vector128.Create(a[3]);
            c30 = Vector128.FusedMultiplyAdd(a3, b0, c30);
            c31 = Vector128.FusedMultiplyAdd(a3, b1, c31);
            a += aStep;
            b += bStep;
        }

        c00.Store(c);
        c01.Store(c + 4);
        c10.Store(c + cStep);
        c11.Store(c + cStep + 4);
        c20.Store(c + (2 * cStep));
        c21.Store(c + (2 * cStep) + 4);
        c30.Store(c + (3 * cStep));
        c31.Store(c + (3 * cStep) + 4);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Rows2(
        float* a, nint aStep, float* b, nint bStep, int depth, float* c, nint cStep, bool load)
    {
        Vector128<float> c00 = default, c01 = default;
        Vector128<float> c10 = default, c11 = default;
        if (load)
        {
            c00 = Vector128.Load(c);
            c01 = Vector128.Load(c + 4);
            c10 = Vector128.Load(c + cStep);
            c11 = Vector128.Load(c + cStep + 4);
        }

        for (; depth > 0; depth--)
        {
            Vector128<float> b0 = Vector128.Load(b);
            Vector128<float> b1 = Vector128.Load(b + 4);
            Vector128<float> a0 = Vector128.Create(a[0]);
            c00 = Vector128.FusedMultiplyAdd(a0, b0, c00);
            c01 = Vector128.FusedMultiplyAdd(a0, b1, c01);
            Vector128<float> a1 = Vector128.Create(a[1]);
            c10 = Vector128.FusedMultiplyAdd(a1, b0, c10);
            c11 = Vector128.FusedMultiplyAdd(a1, b1, c11);
            a += aStep;
            b += bStep;
        }

        c00.Store(c);
        c01.Store(c + 4);
        c10.Store(c + cStep);
        c11.Store(c + cStep + 4);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Rows1(
        float* a, nint aStep, float* b, nint bStep, int depth, float* c, nint cStep, bool load)
    {
        Vector128<float> c00 = default, c01 = default;
        if (load)
        {
            c00 = Vector128.Load(c);
            c01 = Vector128.Load(c + 4);
        }

        for (; depth > 0; depth--)
        {
            Vector128<float> b0 = Vector128.Load(b);
            Vector128<float> b1 = Vector128.Load(b + 4);
            Vector128<float> a0 = Vector128.Create(a[0]);
            c00 = Vector128.FusedMultiplyAdd(a0, b0, c00);
            c01 = Vector128.FusedMultiplyAdd(a0, b1, c01);
            a += aStep;
            b += bStep;
        }

        c00.Store(c);
        c01.Store(c + 4);
    }
}
