using Krewe.Grains.Devices;
using Krewe.Grains.Interfaces;
using Krewe.Grains.Interfaces.Pipeline;
using Krewe.Grains.Training;
using Krewe.Model.Checkpoints;
using Krewe.Model.Configuration;
using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Pipeline;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Krewe.Model.Training;
using Krewe.Silo.Hosting;
using Krewe.TestSupport;
using Microsoft.Extensions.DependencyInjection;
using Xunit;

namespace Krewe.Grains.Tests.Training;

/// <summary>
/// Ten steps under every schedule and on several numbers of silos, against one process without a cluster: every
/// parameter to the bit.
/// </summary>
public class ScheduleBitsTests(ITestOutputHelper output)
{
    private const ulong Seed = 5;
    private const int Steps = 10;

    /// <summary>Embedding and head are a sixtieth of it: each direction has its own.</summary>
    private static readonly ModelConfig Small = ModelPresets.Get("tiny") with
    {
        NumHiddenLayers = 8,
        NumNextnPredictLayers = 1,
    };

    /// <summary>Embedding and head are a seventeenth of it: the cluster holds them once.</summary>
    private static readonly ModelConfig Wide = Small with { VocabSize = 1024 };

    private static readonly TrainingConfig Recipe = new()
    {
        Steps = 100,
        WarmupSteps = 0,
        LearningRate = 1e-3,
        BatchSize = 8,
        MicroBatches = 8,
        SequenceLength = 24,
        BiasUpdateSpeed = 1e-2,
        BalanceLossAlpha = 1e-3,
    };

    [Theory]
    [InlineData(1, false)]
    [InlineData(2, false)]
    [InlineData(4, false)]
    [InlineData(1, true)]
    [InlineData(2, true)]
    [InlineData(4, true)]
    public async Task Every_schedule_gives_the_bits_of_one_process(int silos, bool tablesOnce)
    {
        ModelConfig config = tablesOnce ? Wide : Small;
        Dictionary<string, float[]> expected = await LocalAsync(config);
        var options = new EmbeddedClusterOptions { Silos = silos, CpuThreads = 2 };
        await using EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(options, TestContext.Current.CancellationToken);
        foreach (PipelineMethod method in Enum.GetValues<PipelineMethod>())
        {
            await using ClusterModel model = await ClusterModel.CreateAsync(
                cluster.Grains, $"bits-{method.Name()}", Source(config), cluster.SiloNames, new PipelineLayout(method, 4));
            Assert.Equal(method == PipelineMethod.DualPipe && !tablesOnce, model.Plan.TableReplicas);
            Dictionary<string, float[]> actual = await RunAsync(model, config);
            Compare(expected, actual, $"{method.Name()} on {silos} silos");
        }

        output.WriteLine($"{silos} silos: {expected.Count} tensors equal under every schedule");
    }

    /// <summary>Devices of one silo, each with memory that neither the host nor another device reaches.</summary>
    [Theory]
    [InlineData(1, 3, true, false)]
    [InlineData(1, 3, false, true)]
    [InlineData(2, 4, true, true)]
    public async Task Several_devices_of_a_silo_give_the_bits_of_one(
        int silos, int devices, bool direct, bool tablesOnce)
    {
        ModelConfig config = tablesOnce ? Wide : Small;
        Dictionary<string, float[]> expected = await LocalAsync(config);
        var options = new EmbeddedClusterOptions
        {
            Silos = silos,
            CpuThreads = 2,
            Devices = [.. Enumerable.Repeat(DeviceName.Cpu, devices)],
            Device = device => new SeparateMemoryDevice(device, direct),
        };
        CancellationToken cancellation = TestContext.Current.CancellationToken;
        await using EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(options, cancellation);
        Assert.Equal(silos, cluster.SiloNames.Length);
        foreach (PipelineMethod method in Enum.GetValues<PipelineMethod>())
        {
            await using ClusterModel model = await ClusterModel.CreateAsync(
                cluster.Grains, $"places-{method.Name()}", Source(config), cluster.PlaceNames,
                new PipelineLayout(method, 4));
            Assert.Equal(devices, model.Plan.SiloOfStage.Distinct().Count());
            Assert.All(model.Plan.SiloOfExpert.Values, experts => Assert.Equal(devices, experts.Distinct().Count()));
            Compare(expected, await RunAsync(model, config), $"{method.Name()} on {devices} devices of {silos} silos");
        }

        TensorPost[] posts = [.. Enumerable.Range(0, silos).SelectMany(PostsOf)];
        (long straight, long byHost) = (posts.Sum(post => post.DirectCopies), posts.Sum(post => post.CopiesByHost));
        output.WriteLine(
            $"{devices} devices of {silos} silos: {straight:N0} copies from device to device, {byHost:N0} by the host");
        Assert.Equal((direct, !direct), (straight > 1000, byHost > 1000));
        Assert.Equal(0, direct ? byHost : straight);

        IEnumerable<TensorPost> PostsOf(int silo)
        {
            IServiceProvider services = cluster.ServicesOf(silo);
            return services.GetRequiredService<DeviceHosts>().All.Select(services.GetRequiredService<TensorPosts>().Of);
        }
    }

    [Theory]
    [InlineData("fp32", false)]
    [InlineData("fp32", true)]
    [InlineData("fp8", false)]
    public async Task Dual_pipe_gives_the_same_bits_with_tensors_sent_as_between_machines(string precision, bool tablesOnce)
    {
        ModelConfig config = tablesOnce ? Wide : Small;
        Dictionary<string, float[]> expected = await LocalAsync(config, precision);
        var options = new EmbeddedClusterOptions { Silos = 3, CpuThreads = 2, InBand = true };
        await using EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(options, TestContext.Current.CancellationToken);
        await using ClusterModel model = await ClusterModel.CreateAsync(
            cluster.Grains, "apart", Source(config, precision), cluster.SiloNames, new PipelineLayout(PipelineMethod.DualPipe, 4),
            Guid.NewGuid());
        Compare(expected, await RunAsync(model, config), "dualpipe, tensors sent");
    }

    private static ModelSource Source(ModelConfig config, string precision = "fp32") => new()
    {
        ConfigJson = config.ToJson(),
        Seed = Seed,
        Training = true,
        MaxPositions = 64,
        Precision = precision,
    };

    private static void Compare(Dictionary<string, float[]> expected, Dictionary<string, float[]> actual, string what)
    {
        foreach ((string name, float[] values) in expected)
        {
            Assert.True(values.AsSpan().SequenceEqual(actual[name]), $"'{name}' differs: {what}");
        }
    }

    private static async Task<Dictionary<string, float[]>> LocalAsync(ModelConfig config, string precision = "fp32")
    {
        using var pool = new ComputePool(1);
        using var device = new CpuDevice(pool, "cpu:0");
        using LocalModel model = await LocalModel.LoadAsync(
            config, device, new SeededParameters(Seed, config.InitializerRange), 1, 64,
            PrecisionRecipe.Get(precision));
        await model.PrepareForTrainingAsync(DType.Float32);
        return await RunAsync(model, config);
    }

    private static async Task<Dictionary<string, float[]>> RunAsync(IInspectable model, ModelConfig config)
    {
        var trainer = new Trainer(model, config, Recipe);
        var result = new Dictionary<string, float[]>();
        var random = new Random(3);
        for (int step = 0; step < Steps; step++)
        {
            MicroBatch[] batch = [.. Enumerable.Range(0, Recipe.MicroBatches).Select(_ => MicroBatch.OfTexts(
                [Enumerable.Range(0, Recipe.SequenceLength).Select(_ => random.Next(config.VocabSize)).ToArray()]))];
            StepReport report = await trainer.StepAsync(step, batch);
            result[$"losses of step {step}"] =
                [(float)report.TotalLoss, (float)report.GradientNorm, (float)report.BalanceLoss];
        }

        foreach (TensorSpec spec in DeepSeekNames.Enumerate(config).Where(spec => spec.Role != TensorRole.Duplicate))
        {
            result[spec.Name] = await model.ReadParameterAsync(spec.Name);
        }

        return result;
    }
}
