using System.Diagnostics;
using Krewe.Model.Kernels.Cpu;

namespace Krewe.Kernels;

/// <summary>Seconds a call: median, least and most of the repetitions, and bytes allocated a call.</summary>
internal readonly record struct Timing(double Median, double Min, double Max, long BytesPerCall)
{
    private const double TargetSeconds = 0.004;

    /// <summary>Measures <paramref name="action"/> inside one job of the pool, as a device would run it.</summary>
    public static Timing Of(ComputePool pool, int repetitions, Action action)
    {
        Timing result = default;
        pool.RunAsync(() => result = Measure(repetitions, action)).GetAwaiter().GetResult();
        return result;
    }

    private static Timing Measure(int repetitions, Action action)
    {
        // The JIT's tiers settle during the warm-up; a repetition is long enough for the clock.
        long warm = Stopwatch.GetTimestamp();
        int calls = 0;
        while (Stopwatch.GetElapsedTime(warm).TotalSeconds < 0.25 || calls < 40)
        {
            action();
            calls++;
            if (Stopwatch.GetElapsedTime(warm).TotalSeconds > 2)
            {
                break;
            }
        }

        double estimate = Stopwatch.GetElapsedTime(warm).TotalSeconds / calls;
        int inner = Math.Max(1, (int)(TargetSeconds / estimate));
        double[] seconds = new double[repetitions];
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < repetitions; i++)
        {
            long start = Stopwatch.GetTimestamp();
            for (int j = 0; j < inner; j++)
            {
                action();
            }

            seconds[i] = Stopwatch.GetElapsedTime(start).TotalSeconds / inner;
        }

        long bytes = (GC.GetAllocatedBytesForCurrentThread() - before) / (repetitions * (long)inner);
        Array.Sort(seconds);
        return new(seconds[repetitions / 2], seconds[0], seconds[^1], bytes);
    }
}
