using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Krewe.Model.Kernels.Cpu;

namespace Krewe.Kernels;

/// <summary>What one core can do at best: chains of fused multiply-adds in registers, without memory.</summary>
internal static class PeakRate
{
    /// <summary>GFLOP/s of one core, the best of 20 runs.</summary>
    public static double Measure(ComputePool pool)
    {
        double best = 0;
        pool.RunAsync(() =>
        {
            for (int i = 0; i < 20; i++)
            {
                best = Math.Max(best, Vector512.IsHardwareAccelerated ? Rate512() : Rate256());
            }
        }).GetAwaiter().GetResult();
        return best;
    }

    private static double Rate512()
    {
        const int Steps = 400_000;
        long start = Stopwatch.GetTimestamp();
        float sum = Chains512(Steps);
        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        return sum == 42 ? 0 : Steps * 24.0 * 16 * 2 / seconds / 1e9;
    }

    private static double Rate256()
    {
        const int Steps = 400_000;
        long start = Stopwatch.GetTimestamp();
        float sum = Chains256(Steps);
        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        return sum == 42 ? 0 : Steps * 12.0 * 8 * 2 / seconds / 1e9;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float Chains512(int steps)
    {
        Vector512<float> x = Vector512.Create(0.999f), y = Vector512.Create(1e-3f);
        Vector512<float> s0 = Vector512.Create(0f);
        Vector512<float> s1 = Vector512.Create(1f);
        Vector512<float> s2 = Vector512.Create(2f);
        Vector512<float> s3 = Vector512.Create(3f);
        Vector512<float> s4 = Vector512.Create(4f);
        Vector512<float> s5 = Vector512.Create(5f);
        Vector512<float> s6 = Vector512.Create(6f);
        Vector512<float> s7 = Vector512.Create(7f);
        Vector512<float> s8 = Vector512.Create(8f);
        Vector512<float> s9 = Vector512.Create(9f);
        Vector512<float> s10 = Vector512.Create(10f);
        Vector512<float> s11 = Vector512.Create(11f);
        Vector512<float> s12 = Vector512.Create(12f);
        Vector512<float> s13 = Vector512.Create(13f);
        Vector512<float> s14 = Vector512.Create(14f);
        Vector512<float> s15 = Vector512.Create(15f);
        Vector512<float> s16 = Vector512.Create(16f);
        Vector512<float> s17 = Vector512.Create(17f);
        Vector512<float> s18 = Vector512.Create(18f);
        Vector512<float> s19 = Vector512.Create(19f);
        Vector512<float> s20 = Vector512.Create(20f);
        Vector512<float> s21 = Vector512.Create(21f);
        Vector512<float> s22 = Vector512.Create(22f);
        Vector512<float> s23 = Vector512.Create(23f);
        for (int i = 0; i < steps; i++)
        {
            s0 = Vector512.FusedMultiplyAdd(s0, x, y);
            s1 = Vector512.FusedMultiplyAdd(s1, x, y);
            s2 = Vector512.FusedMultiplyAdd(s2, x, y);
            s3 = Vector512.FusedMultiplyAdd(s3, x, y);
            s4 = Vector512.FusedMultiplyAdd(s4, x, y);
            s5 = Vector512.FusedMultiplyAdd(s5, x, y);
            s6 = Vector512.FusedMultiplyAdd(s6, x, y);
            s7 = Vector512.FusedMultiplyAdd(s7, x, y);
            s8 = Vector512.FusedMultiplyAdd(s8, x, y);
            s9 = Vector512.FusedMultiplyAdd(s9, x, y);
            s10 = Vector512.FusedMultiplyAdd(s10, x, y);
            s11 = Vector512.FusedMultiplyAdd(s11, x, y);
            s12 = Vector512.FusedMultiplyAdd(s12, x, y);
            s13 = Vector512.FusedMultiplyAdd(s13, x, y);
            s14 = Vector512.FusedMultiplyAdd(s14, x, y);
            s15 = Vector512.FusedMultiplyAdd(s15, x, y);
            s16 = Vector512.FusedMultiplyAdd(s16, x, y);
            s17 = Vector512.FusedMultiplyAdd(s17, x, y);
            s18 = Vector512.FusedMultiplyAdd(s18, x, y);
            s19 = Vector512.FusedMultiplyAdd(s19, x, y);
            s20 = Vector512.FusedMultiplyAdd(s20, x, y);
            s21 = Vector512.FusedMultiplyAdd(s21, x, y);
            s22 = Vector512.FusedMultiplyAdd(s22, x, y);
            s23 = Vector512.FusedMultiplyAdd(s23, x, y);
        }

        return Vector512.Sum(
            s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11
            + s12 + s13 + s14 + s15 + s16 + s17 + s18 + s19 + s20 + s21 + s22 + s23);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float Chains256(int steps)
    {
        Vector256<float> x = Vector256.Create(0.999f), y = Vector256.Create(1e-3f);
        Vector256<float> s0 = Vector256.Create(0f);
        Vector256<float> s1 = Vector256.Create(1f);
        Vector256<float> s2 = Vector256.Create(2f);
        Vector256<float> s3 = Vector256.Create(3f);
        Vector256<float> s4 = Vector256.Create(4f);
        Vector256<float> s5 = Vector256.Create(5f);
        Vector256<float> s6 = Vector256.Create(6f);
        Vector256<float> s7 = Vector256.Create(7f);
        Vector256<float> s8 = Vector256.Create(8f);
        Vector256<float> s9 = Vector256.Create(9f);
        Vector256<float> s10 = Vector256.Create(10f);
        Vector256<float> s11 = Vector256.Create(11f);
        for (int i = 0; i < steps; i++)
        {
            s0 = Vector256.FusedMultiplyAdd(s0, x, y);
            s1 = Vector256.FusedMultiplyAdd(s1, x, y);
            s2 = Vector256.FusedMultiplyAdd(s2, x, y);
            s3 = Vector256.FusedMultiplyAdd(s3, x, y);
            s4 = Vector256.FusedMultiplyAdd(s4, x, y);
            s5 = Vector256.FusedMultiplyAdd(s5, x, y);
            s6 = Vector256.FusedMultiplyAdd(s6, x, y);
            s7 = Vector256.FusedMultiplyAdd(s7, x, y);
            s8 = Vector256.FusedMultiplyAdd(s8, x, y);
            s9 = Vector256.FusedMultiplyAdd(s9, x, y);
            s10 = Vector256.FusedMultiplyAdd(s10, x, y);
            s11 = Vector256.FusedMultiplyAdd(s11, x, y);
        }

        return Vector256.Sum(
            s0 + s1 + s2 + s3 + s4 + s5
            + s6 + s7 + s8 + s9 + s10 + s11);
    }
}
