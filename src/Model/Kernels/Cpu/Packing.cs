using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Krewe.Model.Kernels.Cpu;

/// <summary>Copies operands into the order in which a micro-kernel reads them.</summary>
internal static unsafe class Packing
{
    /// <summary>
    /// to[k * width + i] = from[row(i) * stride + k]: transposes <paramref name="count"/> rows; the rest of the width
    /// is 0.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Transpose(float* from, nint stride, int* rows, int count, int depth, float* to, int width)
    {
        int i = 0;
        if (Vector512.IsHardwareAccelerated && Avx512F.IsSupported)
        {
            for (; i + 16 <= count; i += 16)
            {
                Transpose16(from, stride, rows, i, depth, to + i, width);
            }
        }

        for (; i + 4 <= count; i += 4)
        {
            Transpose4(from, stride, rows, i, depth, to + i, width);
        }

        for (; i < width; i++)
        {
            if (i < count)
            {
                float* row = from + ((rows == null ? i : rows[i]) * stride);
                for (int k = 0; k < depth; k++)
                {
                    to[(k * (nint)width) + i] = row[k];
                }
            }
            else
            {
                for (int k = 0; k < depth; k++)
                {
                    to[(k * (nint)width) + i] = 0;
                }
            }
        }
    }

    /// <summary>
    /// to[k * width + j] = from[row(k) * stride + j] for j below <paramref name="count"/>; the rest of the width is 0.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void CopyRows(float* from, nint stride, int* rows, int count, int depth, float* to, int width)
    {
        for (int k = 0; k < depth; k++, to += width)
        {
            float* row = from + ((rows == null ? k : rows[k]) * stride);
            int j = 0;
            for (; j + 16 <= count; j += 16)
            {
                Vector512.Load(row + j).Store(to + j);
            }

            for (; j + 4 <= count; j += 4)
            {
                Vector128.Load(row + j).Store(to + j);
            }

            for (; j < count; j++)
            {
                to[j] = row[j];
            }

            for (; j < width; j++)
            {
                to[j] = 0;
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Transpose4(float* from, nint stride, int* rows, int first, int depth, float* to, nint width)
    {
        float* r0 = from + ((rows == null ? first : rows[first]) * stride);
        float* r1 = from + ((rows == null ? first + 1 : rows[first + 1]) * stride);
        float* r2 = from + ((rows == null ? first + 2 : rows[first + 2]) * stride);
        float* r3 = from + ((rows == null ? first + 3 : rows[first + 3]) * stride);
        int k = 0;
        if (Sse.IsSupported)
        {
            for (; k + 4 <= depth; k += 4)
            {
                Vector128<float> x0 = Vector128.Load(r0 + k);
                Vector128<float> x1 = Vector128.Load(r1 + k);
                Vector128<float> x2 = Vector128.Load(r2 + k);
                Vector128<float> x3 = Vector128.Load(r3 + k);
                Vector128<float> low01 = Sse.UnpackLow(x0, x1);
                Vector128<float> high01 = Sse.UnpackHigh(x0, x1);
                Vector128<float> low23 = Sse.UnpackLow(x2, x3);
                Vector128<float> high23 = Sse.UnpackHigh(x2, x3);
                Sse.MoveLowToHigh(low01, low23).Store(to);
                Sse.MoveHighToLow(low23, low01).Store(to + width);
                Sse.MoveLowToHigh(high01, high23).Store(to + (2 * width));
                Sse.MoveHighToLow(high23, high01).Store(to + (3 * width));
                to += 4 * width;
            }
        }

        for (; k < depth; k++, to += width)
        {
            to[0] = r0[k];
            to[1] = r1[k];
            to[2] = r2[k];
            to[3] = r3[k];
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Transpose16(float* from, nint stride, int* rows, int first, int depth, float* to, nint width)
    {
        nint* r = stackalloc nint[16];
        for (int i = 0; i < 16; i++)
        {
            r[i] = (nint)(from + ((rows == null ? first + i : rows[first + i]) * stride));
        }

        int k = 0;
        for (; k + 16 <= depth; k += 16)
        {
            Block16 block = default;
            Transpose512.Load(r, k, ref block);
            float* t = to + (k * width);
            block.V0.Store(t);
            block.V1.Store(t + width);
            block.V2.Store(t + (2 * width));
            block.V3.Store(t + (3 * width));
            block.V4.Store(t + (4 * width));
            block.V5.Store(t + (5 * width));
            block.V6.Store(t + (6 * width));
            block.V7.Store(t + (7 * width));
            block.V8.Store(t + (8 * width));
            block.V9.Store(t + (9 * width));
            block.V10.Store(t + (10 * width));
            block.V11.Store(t + (11 * width));
            block.V12.Store(t + (12 * width));
            block.V13.Store(t + (13 * width));
            block.V14.Store(t + (14 * width));
            block.V15.Store(t + (15 * width));
        }

        for (; k < depth; k++)
        {
            for (int i = 0; i < 16; i++)
            {
                to[(k * width) + i] = ((float*)r[i])[k];
            }
        }
    }
}
