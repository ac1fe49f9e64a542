using Krewe.Model.Configuration;
using Krewe.Model.Generation;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Krewe.Model.Training;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Models;

/// <content>Generation over the latent cache; models for inference repeat a step that was made once.</content>
public abstract partial class ModelContract
{
    private static readonly ModelConfig _decisive = _tiny with { InitializerRange = 0.2 };

    /// <summary>Prompts shorter and longer than a page, ends at different steps.</summary>
    private static readonly Continuation[] _requests =
    [
        new([5, 80, 101, 7], 20, [], SamplingOptions.Greedy),
        new([.. Enumerable.Range(0, 70).Select(i => i * 13 % 250)], 9, [], SamplingOptions.Greedy),
        new([1], 40, [], SamplingOptions.Greedy),
        new([9, 9], 1, [], SamplingOptions.Greedy),
    ];

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task Tokens_in_float32_are_those_of_a_CPU_with_steps_called_or_repeated(int stages)
    {
        int[][] expected = await OnCpuAsync(async cpu =>
        {
            using LocalModel model = await LoadAsync(cpu, "fp32", stages, forInference: false);
            return await new LocalDecoder(model).GenerateAsync(_requests);
        });
        Assert.Equal(_requests.Select(request => request.MaxTokens), expected.Select(tokens => tokens.Length));
        Assert.True(expected[2].Distinct().Count() > 3);

        var counting = new RepeatCountingDevice(Device);
        using (LocalModel called = await LoadAsync(counting, "fp32", stages, forInference: false))
        {
            Assert.Equal(expected, await new LocalDecoder(called).GenerateAsync(_requests));
            Assert.Equal(0, counting.Made);
        }

        using LocalModel repeated = await LoadAsync(counting, "fp32", stages, forInference: true);
        Assert.Equal(expected, await new LocalDecoder(repeated).GenerateAsync(_requests));
        Assert.InRange(counting.Made, stages, int.MaxValue);
        Assert.Equal(expected[2..3], await new LocalDecoder(repeated).GenerateAsync(_requests[2..3]));
    }

    [Theory]
    [InlineData("bf16")]
    [InlineData("fp8")]
    public async Task Repeated_steps_with_rounded_operands_give_the_same_tokens_again(string precision)
    {
        using LocalModel model = await LoadAsync(Device, precision, stages: 2, forInference: true);
        int[][] first = await new LocalDecoder(model).GenerateAsync(_requests);
        Assert.Equal(_requests.Select(request => request.MaxTokens), first.Select(tokens => tokens.Length));
        Assert.True(first[2].Distinct().Count() > 3);
        Assert.Equal(first, await new LocalDecoder(model).GenerateAsync(_requests));
        using LocalModel other = await LoadAsync(Device, precision, stages: 2, forInference: true);
        Assert.Equal(first, await new LocalDecoder(other).GenerateAsync(_requests));
    }

    private static Task<LocalModel> LoadAsync(IDevice device, string precision, int stages, bool forInference)
    {
        PrecisionRecipe recipe = PrecisionRecipe.Get(precision);
        return LocalModel.LoadAsync(
            _decisive, device, new SeededParameters(3, _decisive.InitializerRange), stages, maxPositions: 160,
            forInference ? recipe.ForInference() : recipe);
    }
}
