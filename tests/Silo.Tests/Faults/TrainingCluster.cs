using System.Diagnostics;
using System.Security.Cryptography;
using System.Text.Json.Nodes;
using Krewe.Grains.Interfaces.Training;
using Krewe.Model.Checkpoints;
using Krewe.Model.Configuration;
using Krewe.Model.Pipeline;
using Krewe.Model.Tensors;
using Krewe.Silo.Commands.Train;
using Krewe.Silo.Hosting;
using Krewe.Silo.Tests.Commands;
using Krewe.TestSupport;
using Orleans.Runtime;

namespace Krewe.Silo.Tests.Faults;

/// <summary>Silo processes over one Redis server, and a training run on them that something happens to.</summary>
internal sealed class TrainingCluster : IAsyncDisposable
{
    public const int Steps = 40;

    private readonly string[] _arguments;
    private readonly ClusterSettings _settings;
    private readonly TemporaryFolder _folder = new();
    private readonly string[] _verbose = [];
    private ClusterConnection? _connection;

    /// <summary>Where the silos' logs are kept, by KREWE_FAULT_LOG; null for nowhere.</summary>
    private static string? LogFolder => Environment.GetEnvironmentVariable("KREWE_FAULT_LOG");

    private TrainingCluster(string redis, string devices)
    {
        string name = $"test-{Guid.NewGuid():N}";
        if (LogFolder is not null)
        {
            _verbose = ["--verbose"];
        }

        _arguments =
        [
            "--cluster", name, "--membership", "redis", "--connection", redis, "--cpu-threads", "1", "--device", devices,
        ];
        _settings = new() { Cluster = name, Membership = MembershipKind.Redis, Connection = redis };
    }

    public Dictionary<string, SiloProcess> Silos { get; } = [];

    public IGrainFactory Grains => _connection!.Grains;

    public ITrainingRunGrain Run => Grains.GetGrain<ITrainingRunGrain>("run");

    public string Folder => _folder["run"];

    /// <param name="redis">Connection string.</param>
    /// <param name="silos">How many.</param>
    /// <param name="fault">A moment at which the last of them kills itself; null for none.</param>
    /// <param name="devices">Devices of each.</param>
    public static async Task<TrainingCluster> StartAsync(
        string redis, int silos, string? fault = null, string devices = "cpu")
    {
        var cluster = new TrainingCluster(redis, devices);
        foreach (int silo in Enumerable.Range(0, silos))
        {
            await cluster.AddAsync($"silo-{silo}", silo == silos - 1 ? fault : null);
        }

        cluster._connection = await ClusterConnection.ConnectAsync(cluster._settings);
        return cluster;
    }

    /// <summary>A new client, as a command would be: the old one may still have to notice that a silo has left.</summary>
    public async Task ReconnectAsync()
    {
        await _connection!.DisposeAsync();
        _connection = await ClusterConnection.ConnectAsync(_settings);
    }

    public async Task AddAsync(string name, string? fault = null) =>
        Silos[name] = await SiloProcess.StartAsync(fault, [.. _arguments, .. _verbose, "--name", name]);

    /// <summary>Trains, calls <paramref name="fault"/> once when a step is committed, and follows to the end.</summary>
    public async Task<TrainingOutcome> TrainAsync(
        RunRequest request, long faultAfter, Func<TrainingCluster, Task> fault, CancellationToken cancellation)
    {
        RunStarted started = await Run.StartAsync(request with
        {
            Folder = Folder,
            Silos = await _connection!.PlacesAsync(),
        });
        var follower = new RunFollower(Run, Folder, started.FirstStep);
        var outcome = new TrainingOutcome();
        long last = Stopwatch.GetTimestamp();
        Task happening = Task.CompletedTask;
        await foreach (RunEvent happened in follower.ReadAsync(CancellationToken.None, cancellation))
        {
            outcome.Events.Add(happened);
            if (happened is StepCommitted step)
            {
                outcome.LongestPause = Max(outcome.LongestPause, Stopwatch.GetElapsedTime(last));
                last = Stopwatch.GetTimestamp();
                outcome.Losses[step.Report.Step] = step.Report.TotalLoss;
                if (step.Report.Step == faultAfter)
                {
                    happening = Task.Run(() => fault(this), cancellation);
                }
            }
        }

        await happening;
        return outcome;

        static TimeSpan Max(TimeSpan a, TimeSpan b) => a > b ? a : b;
    }

    /// <summary>A command line with what names this cluster.</summary>
    public Task<Outcome> ExecuteAsync(params string[] args) => KreweProgram.RunAsync(
        [.. args, "--cluster", _settings.Cluster, "--membership", "redis", "--connection", _settings.Connection!]);

    /// <summary>Name of the silo that a grain is active on.</summary>
    public async Task<string> SiloOfAsync(IAddressable grain)
    {
        SiloAddress? address = await Grains.GetGrain<IManagementGrain>(0).GetActivationAddress(grain);
        return Silos.First(silo => silo.Value.Address == address?.Endpoint.ToString()).Key;
    }

    /// <summary>The order that all these runs get.</summary>
    /// <param name="data">Text that is trained on.</param>
    /// <param name="method">Schedule.</param>
    /// <param name="stages">Ranks.</param>
    /// <param name="steps">Steps.</param>
    /// <param name="tablesOnce">
    /// True for smaller experts: embedding and head weigh then, and DualPipe keeps them once; else with each direction.
    /// </param>
    public static RunRequest Request(
        string data, PipelineMethod method = PipelineMethod.DualPipe, int stages = 4, int steps = Steps,
        bool tablesOnce = false) => new()
        {
            ConfigJson = (ModelPresets.Get("tiny") is var tiny && tablesOnce
                ? tiny with { MoeIntermediateSize = 16 }
                : tiny).ToJson(),
            TrainingJson = new TrainingConfig
            {
                Steps = steps,
                WarmupSteps = 5,
                BatchSize = 8,
                MicroBatches = 8,
                SequenceLength = 48,
            }.ToJson(),
            Data = data,
            Folder = "",
            Silos = [],
            Stages = stages,
            Method = method,
            SnapshotEvery = 5,
            CheckpointType = DType.Float32,
            HeldOutFraction = 0,
            Elastic = true,
        };

    /// <summary>Digest of the masters, moments and biases that a run ended with.</summary>
    public static string DigestOf(string run, int steps = Steps)
    {
        string state = Path.Combine(
            RunFolder.CheckpointOf(run, steps), TrainingStateFiles.Folder, TrainingStateFiles.Optimizer);
        using FileStream file = File.OpenRead(state);
        return Convert.ToHexString(SHA256.HashData(file));
    }

    /// <summary>The journal's steps and windows: none may be missing or come twice.</summary>
    public static (long Step, long Window)[] Journal(string run) =>
    [
        .. File.ReadLines(Path.Combine(run, "journal.jsonl")).Select(line => JsonNode.Parse(line)!)
            .Select(node => ((long)node["step"]!, (long)node["window"]!)),
    ];

    public async ValueTask DisposeAsync()
    {
        if (_connection is not null)
        {
            await _connection.DisposeAsync();
        }

        foreach (SiloProcess silo in Silos.Values)
        {
            await silo.DisposeAsync();
            if (LogFolder is not null)
            {
                await File.WriteAllLinesAsync(Path.Combine(LogFolder, $"{silo.Name}.log"), silo.Errors);
            }
        }

        _folder.Dispose();
    }
}

/// <summary>What a watcher of a run saw.</summary>
internal sealed class TrainingOutcome
{
    public List<RunEvent> Events { get; } = [];

    public Dictionary<long, double> Losses { get; } = [];

    public TimeSpan LongestPause { get; set; }

    public RunFinished? Finished => Events.OfType<RunFinished>().SingleOrDefault();

    public RunMoved[] Moves => [.. Events.OfType<RunMoved>()];

    public RunRecovered[] Recoveries => [.. Events.OfType<RunRecovered>()];
}
