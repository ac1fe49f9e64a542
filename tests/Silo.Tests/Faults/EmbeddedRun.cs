using Krewe.Grains.Interfaces.Training;
using Krewe.Silo.Hosting;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Silo.Tests.Faults;

/// <summary>
/// Silos of this process on devices that can be lost, and the run of <see cref="UndisturbedRun"/> on them.
/// </summary>
internal sealed class EmbeddedRun : IAsyncDisposable
{
    /// <summary>The step behind which something happens.</summary>
    public const long After = 12;

    private readonly TemporaryFolder _folder = new();
    private readonly List<LosingDevice> _devices;

    private EmbeddedRun(EmbeddedCluster cluster, List<LosingDevice> devices) =>
        (Cluster, _devices) = (cluster, devices);

    public EmbeddedCluster Cluster { get; }

    /// <summary>Devices of all silos, in the order of the places.</summary>
    public IReadOnlyList<LosingDevice> Devices => _devices;

    public ITrainingRunGrain Run => Cluster.Grains.GetGrain<ITrainingRunGrain>("run");

    public string Folder => _folder["run"];

    /// <param name="silos">How many.</param>
    /// <param name="devices">How many, of all together; 0 for one each.</param>
    public static async Task<EmbeddedRun> StartAsync(int silos, int devices = 0)
    {
        var opened = new List<LosingDevice>();
        EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(
            new()
            {
                Silos = silos,
                CpuThreads = 1,
                Devices = [.. Enumerable.Repeat(DeviceName.Cpu, Math.Max(1, devices))],
                Device = device =>
                {
                    opened.Add(new(new SeparateMemoryDevice(device, direct: devices > 0)));
                    return opened[^1];
                },
            },
            TestContext.Current.CancellationToken);
        return new(cluster, opened);
    }

    /// <summary>The device of a place.</summary>
    public LosingDevice DeviceOf(string place) => _devices[Array.IndexOf(Cluster.PlaceNames, place)];

    /// <summary>Trains at all places, and does something behind step <see cref="After"/>.</summary>
    /// <param name="then">What.</param>
    /// <param name="checkpointEvery">Steps between checkpoints; 0 for one at the end.</param>
    public async Task<TrainingOutcome> TrainAsync(Func<Task> then, int checkpointEvery = 0)
    {
        await Run.StartAsync(TrainingCluster.Request(UndisturbedRun.WriteText(_folder)) with
        {
            Folder = Folder,
            Silos = Cluster.PlaceNames,
            Elastic = false,
            CheckpointEvery = checkpointEvery,
        });
        var outcome = new TrainingOutcome();
        Task happening = Task.CompletedTask;
        await foreach (RunEvent happened in Run.WatchAsync(TestContext.Current.CancellationToken))
        {
            outcome.Events.Add(happened);
            if (happened is StepCommitted step)
            {
                outcome.Losses[step.Report.Step] = step.Report.TotalLoss;
                if (step.Report.Step == After)
                {
                    happening = then();
                }
            }
        }

        await happening;
        return outcome;
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await Cluster.DisposeAsync();
        _folder.Dispose();
    }
}
