using System.Diagnostics;
using Krewe.Grains.Interfaces.Training;
using Krewe.Model.Configuration;
using Krewe.Model.Pipeline;
using Krewe.Model.Tensors;
using Krewe.Silo.Commands.Train;
using Krewe.Silo.Hosting;
using Krewe.TestSupport;
using Orleans.Runtime;

namespace Krewe.Cluster;

/// <summary>
/// A long run on four silo processes over a Redis server of its own, of which alternately one is killed and a new one
/// comes. It must go on, with the losses of a run that nothing happened to, and the silos' memory must stay flat.
/// </summary>
internal sealed class Soak : IAsyncDisposable
{
    private const int Silos = 4;
    private const int SnapshotEvery = 10;
    private const int CheckpointEvery = 200;

    private static readonly TimeSpan SampleEvery = TimeSpan.FromSeconds(10);

    private readonly BenchmarkOptions _options;
    private readonly RedisTestServer _redis = new();
    private readonly TemporaryFolder _folder = new();
    private readonly string _name = $"soak-{Guid.NewGuid():N}";
    private readonly Dictionary<string, SiloProcess> _silos = new(StringComparer.Ordinal);
    private readonly Random _random = new(1);
    private readonly SoakMemory _memory = new();
    private readonly SoakProgress _progress = new();
    private int _started;

    private Soak(BenchmarkOptions options) => _options = options;

    public static async Task<int> RunAsync(BenchmarkOptions options)
    {
        await using var soak = new Soak(options);
        return await soak.RunAsync();
    }

    public async ValueTask DisposeAsync()
    {
        foreach (SiloProcess silo in _silos.Values)
        {
            await silo.DisposeAsync();
        }

        await _redis.DisposeAsync();
        _folder.Dispose();
    }

    private async Task<int> RunAsync()
    {
        await _redis.StartAsync();
        if (_redis.Unavailable is { } reason)
        {
            await Console.Error.WriteLineAsync(reason);
            return 2;
        }

        for (int silo = 0; silo < Silos; silo++)
        {
            await AddAsync();
        }

        var settings = new ClusterSettings { Cluster = _name, Membership = MembershipKind.Redis, Connection = _redis.Connection };
        await using ClusterConnection cluster = await ClusterConnection.ConnectAsync(settings);
        RunRequest request = Request(_folder, [.. _silos.Keys]) with { Folder = _folder["run"] };
        ITrainingRunGrain run = cluster.Grains.GetGrain<ITrainingRunGrain>("soak");
        await run.StartAsync(request);
        Task following = FollowAsync(new RunFollower(run, request.Folder, 0));
        double others = await Machine.OthersDuringAsync(() => ChangeAsync(cluster, run, following));
        await StopAsync(run, following);

        _progress.Report();
        _memory.Report(Silos);
        Console.WriteLine($"  the machine's other processes and the silos together used {others:F2} cores");
        bool same = await SoakCheck.CompareAsync(request, _progress);
        return _progress.Finished is not null && same ? 0 : 1;
    }

    internal static RunRequest Request(TemporaryFolder folder, string[] silos)
    {
        string text = folder["text.txt"];
        File.WriteAllText(text, string.Concat(Enumerable.Range(0, 20000).Select(
            i => $"{i * 7919 % 100003} The quick brown fox jumps over the lazy dog. ")));
        return new()
        {
            ConfigJson = ModelPresets.Get("tiny").ToJson(),
            TrainingJson = new TrainingConfig
            {
                Steps = 1_000_000,
                LearningRate = 1e-3,
                BatchSize = 8,
                MicroBatches = 8,
                SequenceLength = 48,
            }.ToJson(),
            Data = text,
            Folder = "",
            Silos = silos,
            Stages = Silos,
            Method = PipelineMethod.DualPipe,
            SnapshotEvery = SnapshotEvery,
            CheckpointEvery = CheckpointEvery,
            CheckpointType = DType.Float32,
            HeldOutFraction = 0,
            Elastic = true,
        };
    }

    private async Task<string> AddAsync()
    {
        string name = $"silo-{_started++:D2}";
        SiloProcess silo = await SiloProcess.StartAsync(
            "--cluster", _name, "--membership", "redis", "--connection", _redis.Connection, "--cpu-threads", "1", "--name", name);
        lock (_silos)
        {
            _silos.Add(name, silo);
        }

        return name;
    }

    /// <summary>Kills and adds until the time is over, and samples meanwhile.</summary>
    private async Task ChangeAsync(ClusterConnection cluster, ITrainingRunGrain run, Task following)
    {
        using var end = new CancellationTokenSource(TimeSpan.FromMinutes(_options.Minutes));
        Task sampling = SampleAsync(cluster, end.Token);
        try
        {
            for (int change = 0; !following.IsCompleted; change++)
            {
                await Task.WhenAny(following, Task.Delay(TimeSpan.FromSeconds(_options.EverySeconds), end.Token));
                end.Token.ThrowIfCancellationRequested();
                if (change % 2 == 0)
                {
                    // Every second time the one that drives the run.
                    string? driver = await DriverAsync(cluster, run);
                    string[] names = [.. _silos.Keys];
                    string victim = change % 4 == 2 && driver is not null ? driver : names[_random.Next(names.Length)];
                    _progress.Change($"kill {victim}{(victim == driver ? ", which drives the run" : "")}");
                    await KillAsync(victim);
                }
                else
                {
                    _progress.Change($"add {await AddAsync()}");
                }
            }
        }
        catch (OperationCanceledException)
        {
            // The time is over.
        }

        await end.CancelAsync();
        await sampling;
    }

    private async Task KillAsync(string name)
    {
        SiloProcess silo;
        lock (_silos)
        {
            _silos.Remove(name, out silo!);
        }

        silo.Kill();
        await silo.DisposeAsync();
    }

    private async Task<string?> DriverAsync(ClusterConnection cluster, ITrainingRunGrain run)
    {
        try
        {
            SiloAddress? address = await cluster.Grains.GetGrain<IManagementGrain>(0).GetActivationAddress(run);
            return _silos.FirstOrDefault(silo => silo.Value.Address == $"{address?.Endpoint}").Key;
        }
        catch (OrleansException)
        {
            return null;
        }
    }

    private async Task SampleAsync(ClusterConnection cluster, CancellationToken end)
    {
        while (!end.IsCancellationRequested)
        {
            KeyValuePair<string, SiloProcess>[] silos;
            lock (_silos)
            {
                silos = [.. _silos];
            }

            await Task.WhenAll(silos.Select(silo => _memory.SampleAsync(cluster, silo.Key, silo.Value.Process, silos.Length)));
            await Task.Delay(SampleEvery, end).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private async Task FollowAsync(RunFollower follower)
    {
        await foreach (RunEvent happened in follower.ReadAsync(CancellationToken.None))
        {
            _progress.Add(happened);
        }
    }

    private static async Task StopAsync(ITrainingRunGrain run, Task following)
    {
        long start = Stopwatch.GetTimestamp();
        while (!following.IsCompleted && Stopwatch.GetElapsedTime(start) < TimeSpan.FromMinutes(2))
        {
            try
            {
                await run.StopAsync();
            }
            catch (OrleansException)
            {
                // A silo was lost just now: again.
            }

            await Task.WhenAny(following, Task.Delay(TimeSpan.FromSeconds(5)));
        }
    }
}
