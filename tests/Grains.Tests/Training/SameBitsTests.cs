using System.Globalization;
using Krewe.Grains.Interfaces;
using Krewe.Grains.Training;
using Krewe.Model.Configuration;
using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Layers;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Krewe.Model.Training;
using Krewe.Silo.Hosting;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Grains.Tests.Training;

/// <summary>The same batch with no cluster and with 1, 2 and 3 silos: logits, gradients and parameters to the bit.</summary>
public class SameBitsTests(ITestOutputHelper output)
{
    private const ulong Seed = 5;
    private const int Steps = 5;

    private static readonly ModelConfig Config = ModelPresets.Get("tiny") with { NumNextnPredictLayers = 2 };

    private static readonly TrainingConfig Recipe = new()
    {
        Steps = 100,
        WarmupSteps = 0,
        LearningRate = 1e-3,
        BatchSize = 4,
        MicroBatches = 2,
        SequenceLength = 24,
        BiasUpdateSpeed = 1e-2,
        BalanceLossAlpha = 1e-3,
    };

    /// <summary>Silos with memory that the host cannot reach, as a GPU's, among others or alone.</summary>
    [Theory]
    [InlineData(1, 1, 1, false)]
    [InlineData(3, 2, 1, false)]
    [InlineData(3, 2, 2, false)]
    [InlineData(3, 2, 2, true)]
    public Task Memory_of_its_own_changes_nothing(int silos, int stages, int everyNth, bool inBand) => AssertSameAsync(
        new()
        {
            Silos = silos,
            CpuThreads = 2,
            InBand = inBand,
            Device = device => int.Parse(device.Name.Split(':')[1], CultureInfo.InvariantCulture) % everyNth == 0
                ? new SeparateMemoryDevice(device)
                : device,
        },
        stages, "fp32");

    [Theory]
    [InlineData(1, 1, false, "fp32")]
    [InlineData(2, 2, false, "fp32")]
    [InlineData(3, 2, false, "fp32")]
    [InlineData(5, 3, false, "fp32")]
    [InlineData(2, 2, true, "fp32")]
    [InlineData(3, 2, false, "bf16")]
    [InlineData(1, 1, false, "fp8")]
    [InlineData(3, 2, false, "fp8")]
    [InlineData(5, 3, false, "fp8")]
    [InlineData(3, 2, false, "mxfp8")]
    public Task A_cluster_computes_the_bits_of_one_process(int silos, int stages, bool inBand, string precision) =>
        AssertSameAsync(new() { Silos = silos, CpuThreads = 2, InBand = inBand }, stages, precision);

    private async Task AssertSameAsync(EmbeddedClusterOptions options, int stages, string precision)
    {
        Outcome expected = await LocalAsync(precision);
        await using EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(options, TestContext.Current.CancellationToken);
        var source = new ModelSource
        {
            ConfigJson = Config.ToJson(),
            Seed = Seed,
            Training = true,
            MaxPositions = 64,
            MomentType = PrecisionRecipe.Get(precision).Moments,
            Precision = precision,
        };
        await using ClusterModel model = await ClusterModel.CreateAsync(
            cluster.Grains, "bits", source, cluster.SiloNames, stages, options.InBand ? Guid.NewGuid() : null);

        Outcome actual = await RunAsync(model);

        Assert.Equal(expected.Losses, actual.Losses);
        foreach ((string name, float[] values) in expected.Tensors)
        {
            Assert.True(values.AsSpan().SequenceEqual(actual.Tensors[name]), $"'{name}' differs with {options.Silos} silos");
        }

        output.WriteLine($"{options.Silos} silos, {stages} stages: {expected.Tensors.Count} tensors equal");
    }

    private static async Task<Outcome> LocalAsync(string precision)
    {
        PrecisionRecipe recipe = PrecisionRecipe.Get(precision);
        using var pool = new ComputePool(1);
        using var device = new CpuDevice(pool, "cpu:0");
        using LocalModel model = await LocalModel.LoadAsync(
            Config, device, new SeededParameters(Seed, Config.InitializerRange), 1, 64, recipe);
        await model.PrepareForTrainingAsync(recipe.Moments);
        return await RunAsync(model);
    }

    private static async Task<Outcome> RunAsync(IInspectable model)
    {
        var outcome = new Outcome([], []);
        MicroBatch[] batch = Batch();
        var trainer = new Trainer(model, Config, Recipe);
        await model.RunAsync(0, 0, batch[0], trainer.Options(batch, ForwardMode.Check));
        outcome.Tensors["logits"] = (await model.ReadActivationAsync(0, "logits"))!;
        outcome.Tensors["mtp_logits.2"] = (await model.ReadActivationAsync(0, "mtp_logits.2"))!;
        string[] names = [.. Checkpoints()];
        foreach (string name in names.Where(name => !name.EndsWith("bias", StringComparison.Ordinal)))
        {
            outcome.Tensors[$"gradient of {name}"] = await model.ReadGradientAsync(name);
        }

        for (int step = 0; step < Steps; step++)
        {
            StepReport report = await trainer.StepAsync(step, batch);
            outcome.Losses.Add(report.TotalLoss);
            outcome.Losses.Add(report.GradientNorm);
            outcome.Losses.Add(report.BalanceLoss);
        }

        foreach (string name in names)
        {
            outcome.Tensors[name] = await model.ReadParameterAsync(name);
        }

        return outcome;
    }

    private static IEnumerable<string> Checkpoints() => Model.Checkpoints.DeepSeekNames.Enumerate(Config)
        .Where(spec => spec.Role != Model.Checkpoints.TensorRole.Duplicate).Select(spec => spec.Name);

    private static MicroBatch[] Batch()
    {
        var random = new Random(3);
        return [.. Enumerable.Range(0, Recipe.MicroBatches).Select(_ => MicroBatch.OfTexts(
            [.. Enumerable.Range(0, 2).Select(_ => Enumerable.Range(0, Recipe.SequenceLength)
                .Select(_ => random.Next(Config.VocabSize)).ToArray())]))];
    }

    private sealed record Outcome(List<double> Losses, Dictionary<string, float[]> Tensors);
}
