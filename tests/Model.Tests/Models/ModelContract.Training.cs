using Krewe.Model.Layers;
using Krewe.Model.Tensors;
using Krewe.Model.Training;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Models;

/// <content>Forward, backward and steps of training.</content>
public abstract partial class ModelContract
{
    private static readonly MicroBatch _batch =
        MicroBatch.OfTexts([[.. Enumerable.Range(0, 30).Select(i => i * 41 % 250)], [1, 2, 3, 4, 5]]);

    [Fact]
    public async Task Gradients_in_float32_are_those_of_a_CPU()
    {
        Dictionary<string, float[]> expected = await OnCpuAsync(cpu => GradientsAsync(cpu, _tiny, "fp32"));
        Dictionary<string, float[]> actual = await GradientsAsync(Device, _tiny, "fp32");
        double difference = ModelGradients.Difference(expected, actual);
        output.WriteLine($"the gradient is off by {difference:e2} of its norm");
        Assert.InRange(difference, 0, 1e-4);
        foreach ((string name, float[] values) in expected)
        {
            if (values.All(value => value == 0))
            {
                // An expert without a token.
                Assert.Equal(values, actual[name]);
                continue;
            }

            // Each parameter's own: one with small gradients does not vanish in the sum.
            double own = ModelGradients.Difference(
                new Dictionary<string, float[]> { [name] = values },
                new Dictionary<string, float[]> { [name] = actual[name] });
            Assert.True(own <= 1e-3, $"{name}: off by {own:e2} of its norm");
        }
    }

    [Fact]
    public async Task Tokens_go_to_the_experts_that_a_CPU_chooses()
    {
        float[][] expected = await OnCpuAsync(ChoicesAsync);
        float[][] actual = await ChoicesAsync(Device);
        Assert.Equal(_tiny.NumHiddenLayers - _tiny.FirstKDenseReplace, expected.Length);
        Assert.All(expected, (choices, i) => Assert.Equal(choices, actual[i]));

        Task<float[][]> ChoicesAsync(IDevice device) => WithModelAsync(device, _tiny, "fp32", async model =>
        {
            _ = await model.RunAsync(
                0, 0, _batch, new Trainer(model, _tiny, new()).Options([_batch], ForwardMode.Evaluation));
            var choices = new List<float[]>();
            for (int layer = _tiny.FirstKDenseReplace; layer < _tiny.NumHiddenLayers; layer++)
            {
                float[] chosen = await model.ReadActivationAsync(0, $"topk_indices.{layer}")
                    ?? throw new InvalidOperationException($"layer {layer} has no choices");
                Assert.Equal(_batch.Tokens.Length * _tiny.NumExpertsPerTok, chosen.Length);
                choices.Add(chosen);
            }

            return choices.ToArray();
        });
    }

    [Fact]
    public async Task Steps_of_training_in_float32_are_those_of_a_CPU()
    {
        StepReport[] expected = await OnCpuAsync(cpu => StepsAsync(cpu, "fp32"));
        StepReport[] actual = await StepsAsync(Device, "fp32");
        for (int step = 0; step < expected.Length; step++)
        {
            (StepReport e, StepReport a) = (expected[step], actual[step]);
            Assert.Equal(1, a.MainLoss / e.MainLoss, 1e-4);
            Assert.Equal(1, a.TotalLoss / e.TotalLoss, 1e-4);
            Assert.Equal(1, a.BalanceLoss / e.BalanceLoss, 1e-4);
            Assert.Equal(1, a.GradientNorm / e.GradientNorm, 1e-4);
            Assert.Equal(e.Loads.Keys, a.Loads.Keys);
            Assert.All(e.Loads, layer => Assert.Equal(layer.Value, a.Loads[layer.Key]));
        }

        // The second step began elsewhere.
        Assert.NotEqual(expected[0].MainLoss, expected[1].MainLoss, 1e-3);
    }

    [Theory]
    [InlineData("bf16", 0.01)]
    [InlineData("fp8", 0.2)]
    [InlineData("mxfp8", 0.2)]
    public async Task Rounded_operands_leave_the_gradient_near(string precision, double tolerance)
    {
        Dictionary<string, float[]> exact = await OnCpuAsync(cpu => GradientsAsync(cpu, _everywhere, "fp32"));
        Dictionary<string, float[]> rounded = await GradientsAsync(Device, _everywhere, precision);
        double difference = ModelGradients.Difference(exact, rounded);
        output.WriteLine($"{precision}: the gradient is off by {difference:P2} of its norm");
        Assert.InRange(difference, 1e-6, tolerance);
    }

    [Theory]
    [InlineData("fp32")]
    [InlineData("bf16")]
    [InlineData("fp8")]
    public async Task Steps_of_training_have_the_same_bits_again(string precision)
    {
        StepReport[] first = await StepsAsync(Device, precision), second = await StepsAsync(Device, precision);
        for (int step = 0; step < first.Length; step++)
        {
            (StepReport a, StepReport b) = (first[step], second[step]);
            Assert.Equal(
                (a.TotalLoss, a.BalanceLoss, a.GradientNorm), (b.TotalLoss, b.BalanceLoss, b.GradientNorm));
        }

        AssertSame(
            await GradientsAsync(Device, _tiny, precision), await GradientsAsync(Device, _tiny, precision));
    }

    [Theory]
    [InlineData("fp32")]
    [InlineData("bf16")]
    [InlineData("fp8")]
    [InlineData("mxfp8")]
    public async Task Deferred_weight_gradients_are_the_immediate_ones(string precision) => AssertSame(
        await GradientsAsync(Device, _tiny, precision), await GradientsAsync(Device, _tiny, precision, deferred: true));

    private static Task<StepReport[]> StepsAsync(IDevice device, string precision) =>
        WithModelAsync(device, _tiny, precision, async model =>
        {
            var trainer = new Trainer(model, _tiny, new() { WarmupSteps = 0, LearningRate = 1e-3 });
            MicroBatch other = MicroBatch.OfTexts([[.. Enumerable.Range(0, 20).Select(i => i * 7 % 250)]]);
            return new[] { await trainer.StepAsync(0, [_batch, other]), await trainer.StepAsync(1, [_batch, other]) };
        });

    private static void AssertSame(Dictionary<string, float[]> expected, Dictionary<string, float[]> actual)
    {
        Assert.Equal(expected.Count, actual.Count);
        foreach ((string name, float[] values) in expected)
        {
            Assert.Contains(values, float.IsFinite);
            Assert.True(Bits(values).SequenceEqual(Bits(actual[name])), name);
        }
    }

    private static ReadOnlySpan<int> Bits(float[] values) =>
        System.Runtime.InteropServices.MemoryMarshal.Cast<float, int>(values);
}
