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
using Krewe.Silo.Tests.Hosting;
using Krewe.TestSupport;
using Orleans.Runtime;

namespace Krewe.Silo.Tests.Faults;

/// <summary>
/// Silo processes over one Redis server, lent to one test by <see cref="StandingSilos"/>, and a training run on them
/// that something happens to.
/// </summary>
internal sealed class TrainingCluster : IAsyncDisposable
{
    public const int Steps = 40;

    private static int s_runs;

    private readonly StandingSilos _silos;
    private readonly TemporaryFolder _folder = new();
    private ClusterConnection? _connection;
    private bool _usable = true;

    private TrainingCluster(StandingSilos silos, SiloProcess? faulty) => (_silos, Faulty) = (silos, faulty);

    /// <summary>Those that take part, by name; a test removes one that it saw end.</summary>
    public Dictionary<string, SiloProcess> Silos => _silos.Running;

    /// <summary>The one that something happens to by itself, at the moment that the test asked for.</summary>
    public SiloProcess? Faulty { get; }

    /// <summary>Name of the run, which no other test's run on the same silos has.</summary>
    public string RunName { get; } = $"run-{Interlocked.Increment(ref s_runs)}";

    public IGrainFactory Grains => _connection!.Grains;

    public ITrainingRunGrain Run => Grains.GetGrain<ITrainingRunGrain>(RunName);

    public string Folder => _folder["run"];

    /// <param name="servers">Where the silos stand.</param>
    /// <param name="silos">How many.</param>
    /// <param name="fault">A moment at which one of them, started for this, kills itself; null for none.</param>
    /// <param name="devices">Devices of each.</param>
    public static async Task<TrainingCluster> StartAsync(
        TestServers servers, int silos, string? fault = null, string devices = "cpu")
    {
        StandingSilos standing = servers.Standing(devices);
        try
        {
            var cluster = new TrainingCluster(standing, await standing.PrepareAsync(silos, fault));
            cluster._connection = await ClusterConnection.ConnectAsync(standing.Settings);
            return cluster;
        }
        catch
        {
            await standing.ReturnAsync(faulty: null, usable: false);
            throw;
        }
    }

    /// <summary>A new client, as a command would be: the old one may still have to notice that a silo has left.</summary>
    public async Task ReconnectAsync()
    {
        await _connection!.DisposeAsync();
        _connection = await ClusterConnection.ConnectAsync(_silos.Settings);
    }

    /// <summary>Starts one more; returns its name.</summary>
    public async Task<string> AddAsync() => (await _silos.AddAsync(fault: null)).Name;

    /// <summary>Waits until the others have declared a silo dead.</summary>
    public async Task UntilDeadAsync(SiloProcess silo)
    {
        using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        while ((await _connection!.MembersAsync().WaitAsync(deadline.Token))
            .Any(member => member.Address.Endpoint.ToString() == silo.Address))
        {
            await Task.Delay(TimeSpan.FromMilliseconds(100), deadline.Token);
        }
    }

    /// <summary>Trains, calls <paramref name="fault"/> once when a step is committed, and follows to the end.</summary>
    public async Task<TrainingOutcome> TrainAsync(
        RunRequest request, long faultAfter, Func<TrainingCluster, Task> fault, CancellationToken cancellation)
    {
        _usable = false;
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
        // Then nothing of the run is left on the silos.
        _usable = outcome.Finished is not null;
        return outcome;

        static TimeSpan Max(TimeSpan a, TimeSpan b) => a > b ? a : b;
    }

    /// <summary>A command line with what names this cluster.</summary>
    public Task<Outcome> ExecuteAsync(params string[] args) => KreweProgram.RunAsync(
        [.. args, "--cluster", _silos.Settings.Cluster, "--membership", "redis", "--connection", _silos.Settings.Connection!]);

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

        await _silos.ReturnAsync(Faulty, _usable);
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
