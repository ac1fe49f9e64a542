using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Krewe.Model.Kernels.Cpu;

/// <content>Panels of four rows and fewer: the ends of matrices, and experts with few tokens.</content>
internal unsafe partial struct MicroKernel512
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Rows4(
        float* a, nint aStep, float* b, nint bStep, int depth, float* c, nint cStep, bool load)
    {
        Vector512<float> c00 = default, c01 = default;
        Vector512<float> c10 = default, c11 = default;
        Vector512<float> c20 = default, c21 = default;
        Vector512<float> c30 = default, c31 = default;
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
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Rows2(
        float* a, nint aStep, float* b, nint bStep, int depth, float* c, nint cStep, bool load)
    {
        Vector512<float> c00 = default, c01 = default;
        Vector512<float> c10 = default, c11 = default;
        if (load)
        {
            c00 = Vector512.Load(c);
            c01 = Vector512.Load(c + 16);
            c10 = Vector512.Load(c + cStep);
            c11 = Vector512.Load(c + cStep + 16);
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
            a += aStep;
            b += bStep;
        }

        c00.Store(c);
        c01.Store(c + 16);
        c10.Store(c + cStep);
        c11.Store(c + cStep + 16);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Rows1(
        float* a, nint aStep, float* b, nint bStep, int depth, float* c, nint cStep, bool load)
    {
        Vector512<float> c00 = default, c01 = default;
        if (load)
        {
            c00 = Vector512.Load(c);
            c01 = Vector512.Load(c + 16);
        }

        for (; depth > 0; depth--)
        {
            Vector512<float> b0 = Vector512.Load(b);
            Vector512<float> b1 = Vector512.Load(b + 16);
            Vector512<float> a0 = Vector512.Create(a[0]);
            c00 = Vector512.FusedMultiplyAdd(a0, b0, c00);
            c01 = Vector512.FusedMultiplyAdd(a0, b1, c01);
            a += aStep;
            b += bStep;
        }

        c00.Store(c);
        c01.Store(c + 16);
    }
}
