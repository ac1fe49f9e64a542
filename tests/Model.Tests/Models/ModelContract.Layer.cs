using Krewe.Model.Configuration;
using Krewe.Model.Precision;
using Xunit;

namespace Krewe.Model.Tests.Models;

/// <content>One layer of experts: the same bits whoever plans it and wherever experts live.</content>
public abstract partial class ModelContract
{
    /// <summary>Recipes with sizes of the hidden state and of experts: rows that begin at multiples of 128 bytes in
    /// every type, and rows that do not.</summary>
    public static TheoryData<string, int, int> Layers =>
    [
        .. from recipe in (string[])["fp32", "bf16", "fp8", "mxfp8", "fp8:experts=bf16", "bf16:experts=fp8"]
           from sizes in ((int, int)[])[(128, 256), (24, 16)]
           select (recipe, sizes.Item1, sizes.Item2),
    ];

    [Theory]
    [MemberData(nameof(Layers))]
    public async Task A_layer_gives_the_same_bits_under_a_plan_of_the_device(string precision, int hidden, int width)
    {
        (ModelConfig config, PrecisionRecipe recipe) = LayerOf(precision, hidden, width);
        int[] together = new int[config.NRoutedExperts];
        float[][] expected = await MoeLayerRun.RunAsync(Device, config, recipe, together);
        AssertSame(expected, await MoeLayerRun.RunAsync(Device, config, recipe, together, plansOnDevice: true), "device");
    }

    [Theory]
    [MemberData(nameof(Layers))]
    public async Task A_layer_gives_the_same_bits_on_any_placement(string precision, int hidden, int width)
    {
        (ModelConfig config, PrecisionRecipe recipe) = LayerOf(precision, hidden, width);
        float[][] expected = await MoeLayerRun.RunAsync(Device, config, recipe, new int[config.NRoutedExperts]);
        var random = new Random(12);
        for (int hosts = 2; hosts < 5; hosts++)
        {
            int[] placement = [.. Enumerable.Range(0, config.NRoutedExperts).Select(_ => random.Next(hosts))];
            AssertSame(
                expected, await MoeLayerRun.RunAsync(Device, config, recipe, placement), string.Join(' ', placement));
        }
    }

    private static (ModelConfig Config, PrecisionRecipe Recipe) LayerOf(string precision, int hidden, int width) =>
        (_tiny with { HiddenSize = hidden, MoeIntermediateSize = width }, PrecisionRecipe.Get(precision));

    private static void AssertSame(float[][] expected, float[][] actual, string context)
    {
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.True(Bits(expected[i]).SequenceEqual(Bits(actual[i])), $"result {i} differs: {context}");
        }
    }
}
