using Krewe.Grains.Devices;
using Krewe.Grains.Interfaces;
using Krewe.Grains.Interfaces.Experts;
using Krewe.Grains.Interfaces.Pipeline;
using Krewe.Grains.Training;
using Krewe.Model.Configuration;
using Krewe.Model.Layers;
using Krewe.Model.Pipeline;
using Krewe.Model.Training;
using Krewe.Silo.Hosting;
using Krewe.TestSupport;
using Microsoft.Extensions.DependencyInjection;

namespace Krewe.Grains.Tests.Pipeline;

/// <summary>
/// Four ranks on four silos whose devices have a set speed (<see cref="PacedDevice"/>), for tests and for the cluster
/// benchmark, which compiles this file too.
/// </summary>
internal sealed class PacedPipeline : IAsyncDisposable
{
    public const int Ranks = 4;

    private readonly EmbeddedCluster _cluster;
    private readonly ModelConfig _config;
    private readonly int _tokens;
    private readonly int _sequence;
    private readonly double _speed;

    private PacedPipeline(EmbeddedCluster cluster, ModelConfig config, int tokens, int sequence, double speed) =>
        (_cluster, _config, _tokens, _sequence, _speed) = (cluster, config, tokens, sequence, speed);

    /// <summary>Layers of a dense stage.</summary>
    private const int DenseLayers = 4;

    /// <summary>Dense layers, as many in each stage: they cost alike, the head is a fiftieth of a layer.</summary>
    private static ModelConfig Dense(int stages) => ModelPresets.Get("tiny") with
    {
        VocabSize = 16,
        HiddenSize = 64,
        IntermediateSize = 128,
        NumHiddenLayers = stages * DenseLayers,
        FirstKDenseReplace = stages * DenseLayers,
        NRoutedExperts = 0,
        NSharedExperts = 0,
        NumExpertsPerTok = 0,
        NGroup = 0,
        TopkGroup = 0,
        NumAttentionHeads = 2,
        NumKeyValueHeads = 2,
        NumNextnPredictLayers = 0,
        BosTokenId = 0,
        EosTokenId = 1,
    };

    /// <summary>
    /// One layer with experts a stage; attention and experts cost alike. Narrow, so that the rows for a host are beyond
    /// what rides in a grain call while their products are quick. Embedding and head are 0.4 % of it, as in a large model
    /// they are little, and so each direction has its own under DualPipe.
    /// </summary>
    private static ModelConfig Experts { get; } = ModelPresets.Get("tiny") with
    {
        VocabSize = 16,
        HiddenSize = 32,
        MoeIntermediateSize = 32,
        NumHiddenLayers = 4,
        FirstKDenseReplace = 0,
        NRoutedExperts = 16,
        NSharedExperts = 1,
        NumExpertsPerTok = 4,
        NGroup = 4,
        TopkGroup = 4,
        NumAttentionHeads = 2,
        NumKeyValueHeads = 2,
        KvLoraRank = 32,
        QLoraRank = 32,
        QkRopeHeadDim = 16,
        QkNopeHeadDim = 32,
        VHeadDim = 32,
        NumNextnPredictLayers = 0,
        MaxPositionEmbeddings = 256,
        BosTokenId = 0,
        EosTokenId = 1,
    };

    /// <summary>Where the last run had what.</summary>
    public PlacementPlan? Plan { get; private set; }

    /// <summary>Dense stages for a schedule, whose forward takes <paramref name="forward"/>, over four ranks.</summary>
    public static Task<PacedPipeline> DenseAsync(PipelineMethod method, TimeSpan forward)
    {
        const int tokens = 64;
        ModelConfig config = Dense(new PipelineLayout(method, Ranks).Stages);
        double speed = tokens * DenseLayers * StageCost.Layer(config, 0) / forward.TotalSeconds;
        return StartAsync(config, tokens, tokens, speed, TimeSpan.Zero, inBand: false);
    }

    /// <summary>
    /// Stages with experts, tensors through the channel, where the experts' forward of a micro-batch and layer takes
    /// <paramref name="experts"/>.
    /// </summary>
    public static Task<PacedPipeline> ExpertsAsync(TimeSpan experts, TimeSpan delay)
    {
        const int tokens = 1024;
        double cost = 3.0 * Experts.HiddenSize * Experts.MoeIntermediateSize * Experts.NumExpertsPerTok;
        return StartAsync(Experts, tokens, 64, tokens * cost / experts.TotalSeconds, delay, inBand: true);
    }

    /// <summary>Runs steps of a schedule; the timelines, and the times from the order to the end of the backward.</summary>
    public async Task<IReadOnlyList<StepTimeline>> RunAsync(PipelineMethod method, int microBatches, int steps)
    {
        var recipe = new TrainingConfig
        {
            Steps = 100,
            WarmupSteps = 0,
            LearningRate = 1e-4,
            BatchSize = microBatches,
            MicroBatches = microBatches,
            SequenceLength = _tokens,
        };
        string name = $"paced-{method.Name()}";
        var source = new ModelSource { ConfigJson = _config.ToJson(), Seed = 1, Training = true, MaxPositions = _sequence };
        await using ClusterModel model = await ClusterModel.CreateAsync(
            _cluster.Grains, name, source, _cluster.SiloNames, new PipelineLayout(method, Ranks), Guid.NewGuid());
        Plan = model.Plan;
        var trainer = new Trainer(model, _config, recipe);
        var random = new Random(3);
        var timelines = new List<StepTimeline>();
        // The first step allocates and compiles.
        for (int step = 0; step <= steps; step++)
        {
            MicroBatch[] batch = [.. Enumerable.Range(0, microBatches).Select(_ => Batch(random))];
            await trainer.StepAsync(step, batch);
            StepTimeline? timeline = await _cluster.Grains.GetGrain<IDualPipeCoordinatorGrain>(name).TimelineAsync();
            if (step > 0)
            {
                timelines.Add(timeline!);
            }
        }

        return timelines;
    }

    /// <summary>
    /// What the simulator needs to know of a run with dense stages: what the devices' set speed makes of the operations,
    /// and what a call costs, which the median forward takes longer than set. Gradients of inputs and of weights take the
    /// forward's matrix products each, and so its time; a pair takes the sum of its halves; the last stage has the head in
    /// addition.
    /// </summary>
    public StageTimes TimesOf(IReadOnlyList<StepTimeline> timelines)
    {
        double stage = DenseLayers * StageCost.Layer(_config, 0);
        double forward = _tokens * stage / _speed;
        double call = Math.Max(0, Durations(timelines).Forward - forward);
        int stages = new PipelineLayout(timelines[0].Method, Ranks).Stages;
        return new(forward, 2 * forward, forward, forward, 3 * forward)
        {
            OverlappedBlocks = DenseLayers,
            CallDelay = call,
            TransferDelay = call,
            StageScales = [.. Enumerable.Range(0, stages).Select(
                index => index < stages - 1 ? 1 : (stage + StageCost.HeadAndMtp(_config)) / stage)],
        };
    }

    /// <summary>Medians of the forwards and of the pairs of a run, in seconds; 0 where there is no pair.</summary>
    public static (double Forward, double Pair) Durations(IReadOnlyList<StepTimeline> timelines)
    {
        ILookup<(PipelineWork, bool), double> durations = timelines
            .SelectMany(timeline => timeline.ToSchedule().Ranks)
            .SelectMany(ops => ops)
            .ToLookup(timed => (timed.Op.First.Work, timed.Op.IsPair), timed => timed.Duration);
        return (
            Median(durations[(PipelineWork.Forward, false)]),
            Median(durations[(PipelineWork.Forward, true)].DefaultIfEmpty()));
    }

    public static double Median(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        int middle = sorted.Length / 2;
        return sorted.Length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
    }

    /// <summary>Set time of everything that each device has done.</summary>
    public IReadOnlyList<TimeSpan> Busy => [.. Enumerable.Range(0, Ranks).Select(silo =>
        ((PacedDevice)_cluster.ServicesOf(silo).GetRequiredService<DeviceHosts>().First.Device).Busy)];

    public async ValueTask DisposeAsync() => await _cluster.DisposeAsync();

    private static async Task<PacedPipeline> StartAsync(
        ModelConfig config, int tokens, int sequence, double speed, TimeSpan delay, bool inBand)
    {
        EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(new()
        {
            Silos = Ranks,
            CpuThreads = 2,
            InBand = inBand,
            Channel = new() { DeliveryDelay = delay },
            Device = device => new PacedDevice(device, speed),
        });
        return new(cluster, config, tokens, sequence, speed);
    }

    private MicroBatch Batch(Random random) => MicroBatch.OfTexts(
        [.. Enumerable.Range(0, _tokens / _sequence).Select(_ =>
            Enumerable.Range(0, _sequence).Select(_ => random.Next(_config.VocabSize)).ToArray())]);
}
