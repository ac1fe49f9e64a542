using System.Diagnostics;
using System.Globalization;
using Krewe.Grains.Interfaces.Devices;
using Krewe.Silo.Hosting;

namespace Krewe.Cluster;

/// <summary>Memory of the silo processes over their lives: resident, managed, and what their devices hold.</summary>
internal sealed class SoakMemory
{
    private static readonly TimeSpan AnswerDeadline = TimeSpan.FromSeconds(5);

    /// <summary>Just started, a process grows by code and pools: thirds are taken of what comes later.</summary>
    private static readonly TimeSpan WarmUp = TimeSpan.FromSeconds(30);

    private readonly Lock _lock = new();
    private readonly SortedDictionary<string, List<Sample>> _samples = new(StringComparer.Ordinal);

    private sealed record Sample(TimeSpan Age, int Silos, double Resident, double? Managed, double? Device);

    public async Task SampleAsync(ClusterConnection cluster, string name, Process process, int silos)
    {
        try
        {
            double resident = Resident(process.Id);
            TimeSpan age = DateTime.Now - process.StartTime;
            (double? managed, double? device) = await AskAsync(cluster, name);
            lock (_lock)
            {
                if (!_samples.TryGetValue(name, out List<Sample>? samples))
                {
                    _samples.Add(name, samples = []);
                }

                samples.Add(new(age, silos, resident, managed, device));
            }
        }
        catch (Exception exception) when (exception is IOException or InvalidOperationException)
        {
            // It was killed between two lines.
        }
    }

    /// <summary>
    /// Compares like with like: with one silo fewer each of the others holds more experts. Of the samples with all
    /// silos there, the thirds of a silo's life.
    /// </summary>
    public void Report(int complete)
    {
        Console.WriteLine(
            $"  memory of the silos in MB while {complete} were there, means of the thirds of their life (after " +
            $"{WarmUp.TotalSeconds:F0} s); the managed heap as the last collection left it:");
        foreach ((string name, List<Sample> all) in _samples)
        {
            Sample[] samples = [.. all.Where(sample => sample.Age > WarmUp && sample.Silos == complete)];
            int third = samples.Length / 3;
            if (third == 0)
            {
                Console.WriteLine($"    {name}: lived {all[^1].Age.TotalSeconds:F0} s, too short");
                continue;
            }

            Sample[][] thirds = [samples[..third], samples[third..^third], samples[^third..]];
            Console.WriteLine(
                $"    {name}, {samples[^1].Age.TotalSeconds,4:F0} s: resident {Change(thirds, s => s.Resident)}; managed heap " +
                $"{Change(thirds, s => s.Managed)}; device {Change(thirds, s => s.Device)}; " +
                $"most resident {all.Max(s => s.Resident):F0}");
        }
    }

    private static string Change(Sample[][] thirds, Func<Sample, double?> value)
    {
        double?[] means = [.. thirds.Select(samples => samples.Average(value))];
        return means.Any(mean => mean is null)
            ? "unknown"
            : string.Create(
                CultureInfo.InvariantCulture,
                $"{means[0]:F0}, {means[1]:F0}, {means[2]:F0} ({100 * (means[2] / means[0] - 1):+0;-0} %)");
    }

    private static async Task<(double? Managed, double? Device)> AskAsync(ClusterConnection cluster, string name)
    {
        try
        {
            DeviceStatus status = await cluster.Grains.GetGrain<IDeviceGrain>(name).StatusAsync().WaitAsync(AnswerDeadline);
            return (status.ManagedBytes / 1e6, status.ReservedBytes / 1e6);
        }
        catch (Exception exception) when (exception is TimeoutException or OrleansException)
        {
            return (null, null);
        }
    }

    private static double Resident(int process)
    {
        string[] pages = File.ReadAllText($"/proc/{process}/statm").Split(' ');
        return double.Parse(pages[1], CultureInfo.InvariantCulture) * Environment.SystemPageSize / 1e6;
    }
}
