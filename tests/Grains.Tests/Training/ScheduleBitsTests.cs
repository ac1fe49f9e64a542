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

    private static readonly ModelConfig Config = ModelPresets.Get("tiny") with
    {
        NumHiddenLayers = 8,
        NumNextnPredictLayers = 1,
    };

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
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(4)]
    public async Task Every_schedule_gives_the_bits_of_one_process(int silos)
    {
        Dictionary<string, float[]> expected = await LocalAsync();
        var options = new EmbeddedClusterOptions { Silos = silos, CpuThreads = 2 };
        await using EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(options, TestContext.Current.CancellationToken);
        foreach (PipelineMethod method in Enum.GetValues<PipelineMethod>())
        {
            await using ClusterModel model = await ClusterModel.CreateAsync(
                cluster.Grains, $"bits-{method.Name()}", Source(), cluster.SiloNames, new PipelineLayout(method, 4));
            Dictionary<string, float[]> actual = await RunAsync(model);
            Compare(expected, actual, $"{method.Name()} on {silos} silos");
        }

        output.WriteLine($"{silos} silos: {expected.Count} tensors equal under every schedule");
    }

    [Theory]
    [InlineData("fp32")]
    [InlineData("fp8")]
    public async Task Dual_pipe_gives_the_same_bits_with_tensors_sent_as_between_machines(string precision)
    {
        Dictionary<string, float[]> expected = await LocalAsync(precision);
        var options = new EmbeddedClusterOptions { Silos = 3, CpuThreads = 2, InBand = true };
        await using EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(options, TestContext.Current.CancellationToken);
        await using ClusterModel model = await ClusterModel.CreateAsync(
            cluster.Grains, "apart", Source(precision), cluster.SiloNames, new PipelineLayout(PipelineMethod.DualPipe, 4),
            Guid.NewGuid());
        Compare(expected, await RunAsync(model), "dualpipe, tensors sent");
    }

    private static ModelSource Source(string precision = "fp32") => new()
    {
        ConfigJson = Config.ToJson(),
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

    private static async Task<Dictionary<string, float[]>> LocalAsync(string precision = "fp32")
    {
        using var pool = new ComputePool(1);
        using var device = new CpuDevice(pool, "cpu:0");
        using var model = new LocalModel(Config, device, new SeededParameters(Seed, Config.InitializerRange), 1, 64,
            PrecisionRecipe.Get(precision));
        await model.PrepareForTrainingAsync(DType.Float32);
        return await RunAsync(model);
    }

    private static async Task<Dictionary<string, float[]>> RunAsync(IInspectable model)
    {
        var trainer = new Trainer(model, Config, Recipe);
        var result = new Dictionary<string, float[]>();
        var random = new Random(3);
        for (int step = 0; step < Steps; step++)
        {
            MicroBatch[] batch = [.. Enumerable.Range(0, Recipe.MicroBatches).Select(_ => MicroBatch.OfTexts(
                [Enumerable.Range(0, Recipe.SequenceLength).Select(_ => random.Next(Config.VocabSize)).ToArray()]))];
            StepReport report = await trainer.StepAsync(step, batch);
            result[$"losses of step {step}"] =
                [(float)report.TotalLoss, (float)report.GradientNorm, (float)report.BalanceLoss];
        }

        foreach (TensorSpec spec in DeepSeekNames.Enumerate(Config).Where(spec => spec.Role != TensorRole.Duplicate))
        {
            result[spec.Name] = await model.ReadParameterAsync(spec.Name);
        }

        return result;
    }
}
