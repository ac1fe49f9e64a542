using System.Diagnostics;

namespace Krewe.Cluster;

/// <summary>What a figure was measured on, and what else ran.</summary>
internal static class Machine
{
    public static string Describe(int threads)
    {
        string model = File.Exists("/proc/cpuinfo")
            ? File.ReadLines("/proc/cpuinfo").FirstOrDefault(line => line.StartsWith("model name", StringComparison.Ordinal)) ?? ""
            : "";
        return $"{model.Split(':')[^1].Trim()}, {Environment.ProcessorCount} cores, .NET {Environment.Version}, {threads} compute threads";
    }

    public static double Median(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        int middle = sorted.Length / 2;
        return sorted.Length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
    }

    public static string Spread(IReadOnlyCollection<double> values, string format = "F1") =>
        $"median {Median(values).ToString(format)} (min {values.Min().ToString(format)}, " +
        $"max {values.Max().ToString(format)}, n={values.Count})";

    /// <summary>
    /// Cores that other processes used while <paramref name="work"/> ran, apart from <paramref name="child"/>.
    /// </summary>
    public static async Task<double> OthersDuringAsync(Func<Task> work, Process? child = null)
    {
        double before = BusySeconds() - OwnSeconds(child);
        long started = Stopwatch.GetTimestamp();
        await work();
        double seconds = Stopwatch.GetElapsedTime(started).TotalSeconds;
        return Math.Max(0, (BusySeconds() - OwnSeconds(child) - before) / seconds);
    }

    private static double OwnSeconds(Process? child)
    {
        child?.Refresh();
        return Process.GetCurrentProcess().TotalProcessorTime.TotalSeconds + (child?.TotalProcessorTime.TotalSeconds ?? 0);
    }

    private static double BusySeconds()
    {
        if (!File.Exists("/proc/stat"))
        {
            return 0;
        }

        // user, nice and system, in hundredths of a second.
        string[] fields = File.ReadLines("/proc/stat").First().Split(' ', StringSplitOptions.RemoveEmptyEntries);
        return fields.Skip(1).Take(3).Sum(field => double.Parse(field, System.Globalization.CultureInfo.InvariantCulture)) / 100;
    }
}
