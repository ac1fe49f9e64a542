using System.Diagnostics;
using Krewe.Model.Kernels.Cpu;

namespace Krewe.Kernels;

/// <summary>What forking, waking and waiting cost, for several spin times.</summary>
internal static class PoolCases
{
    /// <summary>Busy for a while, without memory.</summary>
    private readonly struct BusyLoop(double microseconds) : ILoop
    {
        public void Run(int index) => Busy(microseconds);
    }

    public static void Run(int repetitions)
    {
        Report.Line($"{"spin us",7} {"pinned",6} {"layer us",9} {"of ideal",9} {"round trip us",14} {"after 2 ms idle us",19} {"CPU of a second idle",21}");
        foreach (bool pin in (bool[])[false, true])
        {
            foreach (int spin in (int[])[0, 10, 30, 100, 1000])
            {
                using ComputePool pool = new(2, pin, spin);
                using CpuDevice device = new(pool, "cpu:0");
                double layer = 0;
                pool.RunAsync(() => layer = Layer(pool, repetitions)).GetAwaiter().GetResult();
                double hot = RoundTrip(device, repetitions, TimeSpan.Zero);
                double cold = RoundTrip(device, repetitions, TimeSpan.FromMilliseconds(2));
                TimeSpan before = Process.GetCurrentProcess().TotalProcessorTime;
                Thread.Sleep(300);
                double idle = (Process.GetCurrentProcess().TotalProcessorTime - before).TotalSeconds / 0.3;
                Report.Line($"{spin,7} {pin,6} {layer,9:F1} {layer / 270,9:F2} {hot,14:F1} {cold,19:F1} {idle,21:P1}");
            }
        }
    }

    /// <summary>Loops of 10 parts of 10 us with 20, 40 and 60 us of serial work between them: 270 us at best.</summary>
    private static double Layer(ComputePool pool, int repetitions)
    {
        double[] times = new double[repetitions * 10];
        for (int i = 0; i < times.Length; i++)
        {
            long start = Stopwatch.GetTimestamp();
            foreach (double gap in (ReadOnlySpan<double>)[20, 40, 60])
            {
                pool.For(10, new BusyLoop(10));
                Busy(gap);
            }

            times[i] = Stopwatch.GetElapsedTime(start).TotalMicroseconds;
        }

        Array.Sort(times);
        return times[times.Length / 2];
    }

    private static double RoundTrip(CpuDevice device, int repetitions, TimeSpan pause)
    {
        double[] times = new double[repetitions * 10];
        for (int i = 0; i < times.Length; i++)
        {
            if (pause > TimeSpan.Zero)
            {
                Thread.Sleep(pause);
            }

            long start = Stopwatch.GetTimestamp();
            Task task = device.SubmitAsync(static _ => { });
            while (!task.IsCompleted)
            {
                Thread.Yield();
            }

            times[i] = Stopwatch.GetElapsedTime(start).TotalMicroseconds;
        }

        Array.Sort(times);
        return times[times.Length / 2];
    }

    private static void Busy(double microseconds)
    {
        long end = Stopwatch.GetTimestamp() + (long)(microseconds * Stopwatch.Frequency / 1e6);
        while (Stopwatch.GetTimestamp() < end)
        {
        }
    }
}
