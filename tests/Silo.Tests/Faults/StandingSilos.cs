using Krewe.Silo.Hosting;
using Krewe.TestSupport;

namespace Krewe.Silo.Tests.Faults;

/// <summary>
/// Silo processes of one kind that stay from test to test, as those of a real cluster stay from run to run: a test
/// starts those anew that an earlier one ended. After a test whose run did not come to its end nothing is kept.
/// </summary>
/// <param name="redis">Connection string of the server where they meet.</param>
/// <param name="devices">Devices of each.</param>
internal sealed class StandingSilos(string redis, string devices) : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    private int _started;

    /// <summary>Where the silos' logs are kept, by KREWE_FAULT_LOG; null for nowhere.</summary>
    private static string? LogFolder => Environment.GetEnvironmentVariable("KREWE_FAULT_LOG");

    /// <summary>How to reach them.</summary>
    public ClusterSettings Settings { get; private set; } = NewCluster(redis);

    /// <summary>Those that run, by name.</summary>
    public Dictionary<string, SiloProcess> Running { get; } = [];

    /// <summary>Has exactly so many running; returns the one among them that was started with a fault.</summary>
    public async Task<SiloProcess?> PrepareAsync(int silos, string? fault)
    {
        int kept = silos - (fault is null ? 0 : 1);
        foreach (string surplus in Running.Keys.Order(StringComparer.Ordinal).Skip(kept).ToArray())
        {
            await LeaveAsync(surplus);
        }

        string[] missing = [.. Names().Take(silos - Running.Count)];
        SiloProcess[] started = await Task.WhenAll(
            missing.Select((name, i) => StartAsync(name, i == missing.Length - 1 ? fault : null)));
        return fault is null ? null : started[^1];
    }

    /// <summary>Starts one more.</summary>
    public Task<SiloProcess> AddAsync(string? fault) => StartAsync(Names().First(), fault);

    /// <summary>A test is done with them: the dead go, and the one with a fault.</summary>
    /// <param name="faulty">The silo that was started with a fault.</param>
    /// <param name="usable">False where a run may still be on them.</param>
    public async Task ReturnAsync(SiloProcess? faulty, bool usable)
    {
        if (!usable)
        {
            await DisposeAsync();
            Settings = NewCluster(redis);
            return;
        }

        foreach ((string name, SiloProcess silo) in Running.ToArray())
        {
            if (silo.Process.HasExited)
            {
                await EndAsync(name);
            }
            else if (silo == faulty)
            {
                await LeaveAsync(name);
            }
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        foreach (string name in Running.Keys.ToArray())
        {
            await EndAsync(name);
        }
    }

    private static ClusterSettings NewCluster(string redis) =>
        new() { Cluster = $"test-{Guid.NewGuid():N}", Membership = MembershipKind.Redis, Connection = redis };

    /// <summary>Names that none of those that run has.</summary>
    private IEnumerable<string> Names() => Enumerable.Range(0, int.MaxValue)
        .Select(i => $"silo-{i}").Where(name => !Running.ContainsKey(name));

    private async Task<SiloProcess> StartAsync(string name, string? fault)
    {
        SiloProcess silo = await SiloProcess.StartAsync(
            fault,
            [
                "--cluster", Settings.Cluster, "--membership", "redis", "--connection", redis, "--cpu-threads", "1",
                "--device", devices, "--name", name, .. LogFolder is null ? [] : (string[])["--verbose"],
            ]);
        lock (Running)
        {
            Running.Add(name, silo);
        }

        return silo;
    }

    /// <summary>Has a silo leave the cluster as it would when it is told to.</summary>
    private async Task LeaveAsync(string name)
    {
        Running[name].Terminate();
        await Running[name].WaitForExitAsync(Patience);
        await EndAsync(name);
    }

    private async Task EndAsync(string name)
    {
        Running.Remove(name, out SiloProcess? silo);
        await silo!.DisposeAsync();
        if (LogFolder is not null)
        {
            await File.WriteAllLinesAsync(Path.Combine(LogFolder, $"{_started++:D3}-{name}.log"), silo.Errors);
        }
    }
}
