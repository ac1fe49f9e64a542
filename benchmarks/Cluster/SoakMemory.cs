using System.Diagnostics;
using System.Globalization;
using Krewe.Grains.Interfaces.Devices;
using Krewe.Silo.Hosting;
using Orleans.Runtime;

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
    /// silos there, the first third of a silo's life against its last.
    /// </summary>
    public void Report(int complete)
    {
        Console.WriteLine(
            $"  memory of the silos in MB while {complete} were there, mean of the first third of their life (after " +
            $"{WarmUp.TotalSeconds:F0} s) and of the last:");
        foreach ((string name, List<Sample> all) in _samples)
        {
            Sample[] samples = [.. all.Where(sample => sample.Age > WarmUp && sample.Silos == complete)];
            int third = samples.Length / 3;
            if (third == 0)
            {
                Console.WriteLine($"    {name}: lived {all[^1].Age.TotalSeconds:F0} s, too short");
                continue;
            }

            Sample[] first = samples[..third], last = samples[^third..];
            Console.WriteLine(
                $"    {name}, {samples[^1].Age.TotalSeconds,4:F0} s: resident {Change(first, last, s => s.Resident)}; managed heap " +
                $"{Change(first, last, s => s.Managed)}; device {Change(first, last, s => s.Device)}; " +
                $"most resident {all.Max(s => s.Resident):F0}");
        }
    }

    private static string Change(Sample[] first, Sample[] last, Func<Sample, double?> value)
    {
        double? before = first.Average(value), after = last.Average(value);
        return before is null || after is null
            ? "unknown"
            : string.Create(CultureInfo.InvariantCulture, $"{before:F0} -> {after:F0} ({100 * (after / before - 1):+0;-0} %)");
    }

    private static async Task<(double? Managed, double? Device)> AskAsync(ClusterConnection cluster, string name)
    {
        try
        {
            DeviceStatus status = await cluster.Grains.GetGrain<IDeviceGrain>(name).StatusAsync().WaitAsync(AnswerDeadline);
            SiloMember? member = (await cluster.MembersAsync().WaitAsync(AnswerDeadline)).FirstOrDefault(m => m.Name == name);
            SiloRuntimeStatistics[] runtime = member is null ? [] : await cluster.Grains.GetGrain<IManagementGrain>(0)
                .GetRuntimeStatistics([member.Address]).WaitAsync(AnswerDeadline);
            return (runtime.Length > 0 ? runtime[0].EnvironmentStatistics.RawMemoryUsageBytes / 1e6 : null, status.ReservedBytes / 1e6);
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
