using System.Runtime.InteropServices;

namespace Krewe.Kernels;

/// <summary>Output: one line a measurement, so that two runs can be compared by eye and by diff.</summary>
internal static class Report
{
    public static void Machine()
    {
        string model = File.Exists("/proc/cpuinfo")
            ? File.ReadLines("/proc/cpuinfo").FirstOrDefault(line => line.StartsWith("model name", StringComparison.Ordinal))
                ?.Split(':')[1].Trim() ?? "unknown processor"
            : "unknown processor";
        string load = File.Exists("/proc/loadavg") ? File.ReadAllText("/proc/loadavg").Trim() : "unknown";
        Line($"{model}, {Environment.ProcessorCount} cores, {RuntimeInformation.OSDescription}");
        Line($"{RuntimeInformation.FrameworkDescription}, {DateTime.UtcNow:u}, load {load}");
    }

    public static void Header() => Line(
        $"{"case",-46} {"threads",7} {"median us",10} {"min",9} {"max",9} {"rate",9} {"unit",-8} {"of peak",7} {"bytes/call",10}");

    public static void Row(string name, int threads, Timing timing, double perSecond, string unit, double? ofPeak) => Line(
        $"{name,-46} {threads,7} {timing.Median * 1e6,10:F1} {timing.Min * 1e6,9:F1} {timing.Max * 1e6,9:F1} "
        + $"{perSecond,9:F1} {unit,-8} {(ofPeak is double share ? share.ToString("F2") : ""),7} {timing.BytesPerCall,10}");

    public static void Line(string text) => Console.WriteLine(text);
}
