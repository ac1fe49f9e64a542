using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Krewe.Model.Kernels.Cpu;

/// <summary>Sixteen vectors that the JIT promotes to registers.</summary>
internal struct Block16
{
    /// <summary>The vectors: number k holds element k of sixteen rows.</summary>
    public Vector512<float>
        V0, V1, V2, V3, V4, V5, V6, V7, V8, V9, V10, V11, V12, V13, V14, V15;
}

/// <summary>Transposition of 16 by 16 floats in registers (AVX-512).</summary>
internal static unsafe class Transpose512
{
    /// <summary>Vector k of <paramref name="block"/> = element offset + k of each of the sixteen rows.</summary>
    /// <param name="rows">Addresses of sixteen rows.</param>
    /// <param name="offset">First element to take.</param>
    /// <param name="block">Receives the columns.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Load(nint* rows, nint offset, ref Block16 block)
    {
        Vector512<float> q0 = Quarter(rows, 0, offset + 0);
        Vector512<float> q1 = Quarter(rows, 1, offset + 0);
        Vector512<float> q2 = Quarter(rows, 2, offset + 0);
        Vector512<float> q3 = Quarter(rows, 3, offset + 0);
        Vector512<float> l01 = Avx512F.UnpackLow(q0, q1);
        Vector512<float> h01 = Avx512F.UnpackHigh(q0, q1);
        Vector512<float> l23 = Avx512F.UnpackLow(q2, q3);
        Vector512<float> h23 = Avx512F.UnpackHigh(q2, q3);
        block.V0 = Avx512F.UnpackLow(l01.AsDouble(), l23.AsDouble()).AsSingle();
        block.V1 = Avx512F.UnpackHigh(l01.AsDouble(), l23.AsDouble()).AsSingle();
        block.V2 = Avx512F.UnpackLow(h01.AsDouble(), h23.AsDouble()).AsSingle();
        block.V3 = Avx512F.UnpackHigh(h01.AsDouble(), h23.AsDouble()).AsSingle();
        q0 = Quarter(rows, 0, offset + 4);
        q1 = Quarter(rows, 1, offset + 4);
        q2 = Quarter(rows, 2, offset + 4);
        q3 = Quarter(rows, 3, offset + 4);
        l01 = Avx512F.UnpackLow(q0, q1);
        h01 = Avx512F.UnpackHigh(q0, q1);
        l23 = Avx512F.UnpackLow(q2, q3);
        h23 = Avx512F.UnpackHigh(q2, q3);
        block.V4 = Avx512F.UnpackLow(l01.AsDouble(), l23.AsDouble()).AsSingle();
        block.V5 = Avx512F.UnpackHigh(l01.AsDouble(), l23.AsDouble()).AsSingle();
        block.V6 = Avx512F.UnpackLow(h01.AsDouble(), h23.AsDouble()).AsSingle();
        block.V7 = Avx512F.UnpackHigh(h01.AsDouble(), h23.AsDouble()).AsSingle();
        q0 = Quarter(rows, 0, offset + 8);
        q1 = Quarter(rows, 1, offset + 8);
        q2 = Quarter(rows, 2, offset + 8);
        q3 = Quarter(rows, 3, offset + 8);
        l01 = Avx512F.UnpackLow(q0, q1);
        h01 = Avx512F.UnpackHigh(q0, q1);
        l23 = Avx512F.UnpackLow(q2, q3);
        h23 = Avx512F.UnpackHigh(q2, q3);
        block.V8 = Avx512F.UnpackLow(l01.AsDouble(), l23.AsDouble()).AsSingle();
        block.V9 = Avx512F.UnpackHigh(l01.AsDouble(), l23.AsDouble()).AsSingle();
        block.V10 = Avx512F.UnpackLow(h01.AsDouble(), h23.AsDouble()).AsSingle();
        block.V11 = Avx512F.UnpackHigh(h01.AsDouble(), h23.AsDouble()).AsSingle();
        q0 = Quarter(rows, 0, offset + 12);
        q1 = Quarter(rows, 1, offset + 12);
        q2 = Quarter(rows, 2, offset + 12);
        q3 = Quarter(rows, 3, offset + 12);
        l01 = Avx512F.UnpackLow(q0, q1);
        h01 = Avx512F.UnpackHigh(q0, q1);
        l23 = Avx512F.UnpackLow(q2, q3);
        h23 = Avx512F.UnpackHigh(q2, q3);
        block.V12 = Avx512F.UnpackLow(l01.AsDouble(), l23.AsDouble()).AsSingle();
        block.V13 = Avx512F.UnpackHigh(l01.AsDouble(), l23.AsDouble()).AsSingle();
        block.V14 = Avx512F.UnpackLow(h01.AsDouble(), h23.AsDouble()).AsSingle();
        block.V15 = Avx512F.UnpackHigh(h01.AsDouble(), h23.AsDouble()).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Quarter(nint* rows, int first, nint offset)
    {
        Vector512<float> v = Vector128.Load((float*)rows[first] + offset).ToVector256Unsafe().ToVector512Unsafe();
        v = Avx512F.InsertVector128(v, Vector128.Load((float*)rows[first + 4] + offset), 1);
        v = Avx512F.InsertVector128(v, Vector128.Load((float*)rows[first + 8] + offset), 2);
        return Avx512F.InsertVector128(v, Vector128.Load((float*)rows[first + 12] + offset), 3);
    }
}
