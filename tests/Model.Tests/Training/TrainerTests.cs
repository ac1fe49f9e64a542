using Krewe.Model.Configuration;
using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Layers;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Krewe.Model.Training;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Training;

public class TrainerTests(ITestOutputHelper output)
{
    private static readonly ModelConfig Tiny = ModelPresets.Get("tiny");

    private static readonly MicroBatch Batch =
        MicroBatch.OfTexts([[.. Enumerable.Range(0, 30).Select(i => i * 41 % 250)], [1, 2, 3, 4, 5]]);

    [Fact]
    public async Task A_prediction_loss_without_weight_has_no_gradient()
    {
        double without = (await StepAsync(Tiny with { NumNextnPredictLayers = 0 }, new())).GradientNorm;
        double weightless = (await StepAsync(Tiny, new() { MtpLossWeight = 0, BalanceLossAlpha = 0 })).GradientNorm;
        double plain = (await StepAsync(
            Tiny with { NumNextnPredictLayers = 0 }, new() { BalanceLossAlpha = 0 })).GradientNorm;
        Assert.Equal(plain, weightless, 1e-6);
        Assert.InRange(without, 0.1, 100);
    }

    [Theory]
    [InlineData("fp32")]
    [InlineData("bf16")]
    [InlineData("fp8")]
    [InlineData("mxfp8")]
    public async Task Deferred_weight_gradients_are_the_immediate_ones(string precision)
    {
        PrecisionRecipe recipe = PrecisionRecipe.Get(precision);
        Dictionary<string, float[]> immediate = await GradientsAsync(Tiny, recipe, deferred: false);
        Dictionary<string, float[]> deferred = await GradientsAsync(Tiny, recipe, deferred: true);
        foreach ((string name, float[] values) in immediate)
        {
            Assert.True(values.AsSpan().SequenceEqual(deferred[name]), name);
        }
    }

    [Fact]
    public async Task Micro_batches_add_up_to_the_whole_batch()
    {
        MicroBatch first = MicroBatch.OfTexts([[.. Enumerable.Range(0, 30).Select(i => i * 41 % 250)]]);
        MicroBatch second = MicroBatch.OfTexts([[1, 2, 3, 4, 5]]);
        StepReport whole = await StepAsync(Tiny, new(), Batch);
        StepReport parts = await StepAsync(Tiny, new(), first, second);
        Assert.Equal(whole.TotalLoss, parts.TotalLoss, 1e-6);
        Assert.Equal(1, parts.GradientNorm / whole.GradientNorm, 1e-4);
    }

    public static TheoryData<string, double> Roundings =>
    [
        ("bf16", 0.01),
        ("fp8", 0.2),
        ("mxfp8", 0.2),
        .. PrecisionRecipe.Parts.Select(part => ($"fp8:{part}=bf16", 0.2)),
        .. PrecisionRecipe.Parts.Select(part => ($"bf16:{part}=fp8", 0.2)),
    ];

    [Theory]
    [MemberData(nameof(Roundings))]
    public async Task Rounded_operands_leave_the_gradient_near(string precision, double tolerance)
    {
        // Every token goes to every expert: near a tie rounding would choose another, and that is no rounding error.
        ModelConfig config = Tiny with
        {
            NumExpertsPerTok = Tiny.NRoutedExperts,
            NGroup = 1,
            TopkGroup = 1,
        };
        PrecisionRecipe recipe = PrecisionRecipe.Get(precision);
        Dictionary<string, float[]> exact = await GradientsAsync(config, PrecisionRecipe.Fp32, deferred: false);
        Dictionary<string, float[]> rounded = await GradientsAsync(config, recipe, deferred: false);
        double difference = ModelGradients.Difference(exact, rounded);
        output.WriteLine($"{precision}: the gradient is off by {difference:P2} of its norm");
        Assert.InRange(difference, 1e-6, tolerance);
    }

    [Theory]
    [InlineData("bf16")]
    [InlineData("fp8")]
    [InlineData("fp8:experts=bf16")]
    [InlineData("fp8:linear=bf16")]
    [InlineData("bf16:swiglu-cache=fp8,dispatch=fp8")]
    public async Task Rounded_operands_in_two_bytes_give_the_same_bits(string precision)
    {
        PrecisionRecipe recipe = PrecisionRecipe.Get(precision);
        Dictionary<string, float[]> wide = await GradientsAsync(Tiny, recipe, deferred: false);
        Dictionary<string, float[]> stored = await GradientsAsync(Tiny, recipe, deferred: false, DType.BFloat16);
        Assert.All(wide, gradient => Assert.Equal(gradient.Value, stored[gradient.Key]));
    }

    [Theory]
    [InlineData("fp8")]
    [InlineData("mxfp8")]
    public async Task Low_precision_learns_as_bfloat16_does(string precision)
    {
        double expected = await MeanLossAsync(PrecisionRecipe.Bf16);
        double actual = await MeanLossAsync(PrecisionRecipe.Get(precision));
        output.WriteLine($"{precision}: mean loss {actual:F5}, bf16 {expected:F5}, {(actual / expected) - 1:P3} apart");
        Assert.InRange(actual / expected, 0.98, 1.02);
    }

    [Fact]
    public void A_greedy_router_ignores_groups_that_do_not_divide()
    {
        ModelConfig config = Tiny with
        {
            ModelType = "deepseek_v2",
            TopkMethod = "greedy",
            ScoringFunc = "softmax",
            NGroup = 3,
            TopkGroup = 1,
        };
        Assert.Equal(8, ExpertTopology.CanonicalGroups(config));
    }

    /// <summary>Mean over 25 steps; the texts have a rule to be learned, at a rate at which rounding is not magnified.</summary>
    private static Task<double> MeanLossAsync(PrecisionRecipe precision) => WithModelAsync(Tiny, precision, async model =>
    {
        const int Steps = 25;
        var trainer = new Trainer(model, Tiny, new() { Steps = 2 * Steps, WarmupSteps = 5, LearningRate = 1e-3 });
        double sum = 0;
        for (int step = 0; step < Steps; step++)
        {
            MicroBatch batch = MicroBatch.OfTexts(
                [[.. Enumerable.Range(step, 40).Select(i => i * 41 % 250)], [.. Enumerable.Range(step, 30).Select(i => i * 7 % 50)]]);
            sum += (await trainer.StepAsync(step, [batch])).MainLoss;
        }

        return sum / Steps;
    });

    private static Task<StepReport> StepAsync(ModelConfig config, TrainingConfig recipe, params MicroBatch[] batch) =>
        WithModelAsync(config, PrecisionRecipe.Fp32, model =>
            new Trainer(model, config, recipe with { WarmupSteps = 0 }).StepAsync(0, batch.Length > 0 ? batch : [Batch]));

    private static Task<Dictionary<string, float[]>> GradientsAsync(
        ModelConfig config, PrecisionRecipe precision, bool deferred, DType storage = DType.Float32) =>
        WithModelAsync(config, precision, model => ModelGradients.OfAsync(model, Batch, deferred), storage);

    private static async Task<T> WithModelAsync<T>(
        ModelConfig config, PrecisionRecipe precision, Func<LocalModel, Task<T>> use, DType storage = DType.Float32)
    {
        using var pool = new ComputePool(2);
        using var device = new PacedDevice(new CpuDevice(pool, "cpu:0"), double.MaxValue, storage);
        using LocalModel model = await LocalModel.LoadAsync(
            config, device, new SeededParameters(3, config.InitializerRange), stages: 2, maxPositions: 64, precision);
        await model.PrepareForTrainingAsync(DType.Float32);
        return await use(model);
    }
}
