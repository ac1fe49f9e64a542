using System.Globalization;
using Krewe.Kernels;
using Krewe.Model.Kernels.Cpu;

// Usage: Krewe.Kernels [repetitions] [part of a case's name, or 'pool']. Run a Release build on an otherwise idle machine.
int repetitions = args.Length > 0 ? int.Parse(args[0], CultureInfo.InvariantCulture) : 25;
Report.Machine();
using ComputePool one = new(1);
using ComputePool two = new(Math.Max(2, Environment.ProcessorCount));
Validation.Run(two);
double peak = PeakRate.Measure(one);
Report.Line($"peak of one core: {peak:F1} GFLOP/s (24 independent chains of fused multiply-adds)");
if (args.Length > 1 && args[1] == "pool")
{
    PoolCases.Run(repetitions);
    return;
}

Report.Header();
using KernelCases cases = new();
cases.Run(one, two, peak, repetitions, args.Length > 1 ? args[1] : "");
