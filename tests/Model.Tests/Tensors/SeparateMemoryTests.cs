using Krewe.Model.Configuration;
using Krewe.Model.Evaluation;
using Krewe.Model.Generation;
using Krewe.Model.Kernels;
using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Layers;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Krewe.Model.Training;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Tensors;

/// <summary>Everything that computes, in memory that the host cannot reach: the bits of a CPU.</summary>
public class SeparateMemoryTests
{
    private static readonly ModelConfig Tiny = ModelPresets.Get("tiny");

    private static readonly MicroBatch[] Batch =
    [
        MicroBatch.OfTexts([[.. Enumerable.Range(0, 30).Select(i => i * 41 % 250)], [1, 2]]),
        MicroBatch.OfTexts([[.. Enumerable.Range(0, 12).Select(i => i * 7 % 250)]]),
    ];

    [Fact]
    public async Task The_host_is_kept_out()
    {
        using var pool = new ComputePool(1);
        using var device = new SeparateMemoryDevice(new CpuDevice(pool, "cpu:0"));
        using Arena arena = device.CreateArena("kept apart");
        Tensor tensor = arena.Allocate(2, 3);
        Assert.Throws<InvalidOperationException>(() => tensor.AsSpan<float>().Length);
        Assert.Throws<InvalidOperationException>(() => tensor.SliceRows(1, 1).Row(0).Length);
        Assert.Throws<InvalidOperationException>(() => tensor.Reshape(new(6)).HostAddress);
        await device.SubmitAsync(kernels => kernels.Upload<float>([1, 2, 3, 4, 5, 6], tensor));
        float[] values = await device.ToFloatsAsync(tensor);
        Assert.Equal([1, 2, 3, 4, 5, 6], values);

        using Arena host = device.CreateHostArena("the host's");
        Tensor copy = await device.CopyAsync(tensor.SliceColumns(1, 2), host);
        Assert.Equal([2, 3, 5, 6], copy.AsSpan<float>().ToArray());
    }

    [Theory]
    [InlineData("fp32", BalanceLossScope.Sequence)]
    [InlineData("fp32", BalanceLossScope.MicroBatch)]
    [InlineData("bf16", BalanceLossScope.Sequence)]
    [InlineData("fp8", BalanceLossScope.Sequence)]
    public async Task Training_gives_the_same_bits(string precision, BalanceLossScope scope)
    {
        PrecisionRecipe recipe = PrecisionRecipe.Get(precision);
        var config = new TrainingConfig { WarmupSteps = 0, LearningRate = 1e-3, BalanceLossScope = scope };
        async Task<float[][]> RunAsync(LocalModel model)
        {
            await model.PrepareForTrainingAsync(recipe.Moments);
            var trainer = new Trainer(model, Tiny, config);
            var results = new List<float[]>();
            for (int step = 0; step < 2; step++)
            {
                StepReport report = await trainer.StepAsync(step, Batch);
                results.Add([(float)report.TotalLoss, (float)report.GradientNorm, (float)report.BalanceLoss]);
            }

            foreach (string name in (string[])["model.embed_tokens.weight", "lm_head.weight", ModelStage.BiasName(2)])
            {
                results.Add(await model.ReadParameterAsync(name));
            }

            return [.. results];
        }

        await AssertSameAsync(recipe, RunAsync);
    }

    [Fact]
    public Task Evaluation_gives_the_same_bits() => AssertSameAsync(PrecisionRecipe.Fp32, async model =>
    {
        TextEvaluation evaluation = await TextEvaluator.RunAsync(
            model, Tiny, [[.. Enumerable.Range(0, 40)], [5, 6, 7, 8, 9], [3]]);
        return [[.. evaluation.Documents.Select(document => (float)document.Nll), evaluation.Agreements, evaluation.AgreementCount]];
    });

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public Task Generation_gives_the_same_tokens(float temperature) => AssertSameAsync(PrecisionRecipe.Fp32, async model =>
    {
        var sampling = new SamplingOptions(temperature, Seed: 3);
        int[] pending = [1, 2, 3, 4, 5];
        var tokens = new List<float>();
        foreach (ModelStage stage in model.Stages)
        {
            stage.OpenSession(0, [16]);
        }

        for (int i = 0; i < 8; i++)
        {
            var result = new DecodeResult(default, []);
            foreach (ModelStage stage in model.Stages)
            {
                result = await stage.DecodeAsync(0, DecodeStep.Of([pending], [sampling]), result.Hidden);
            }

            tokens.Add(result.Tokens[0]);
            pending = result.Tokens;
        }

        return [[.. tokens]];
    });

    private static async Task AssertSameAsync(PrecisionRecipe recipe, Func<LocalModel, Task<float[][]>> run)
    {
        float[][] expected = await OnAsync(device => device);
        float[][] actual = await OnAsync(device => new SeparateMemoryDevice(device));
        Assert.Equal(expected, actual);

        async Task<float[][]> OnAsync(Func<CpuDevice, IDevice> wrap)
        {
            using var pool = new ComputePool(2);
            using IDevice device = wrap(new CpuDevice(pool, "cpu:0"));
            using LocalModel model = await LocalModel.LoadAsync(
                Tiny, device, new SeededParameters(3, Tiny.InitializerRange), stages: 2, maxPositions: 64, recipe);
            return await run(model);
        }
    }
}
