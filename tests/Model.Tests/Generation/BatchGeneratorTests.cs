using Krewe.Model.Configuration;
using Krewe.Model.Generation;
using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Layers;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Krewe.Model.Training;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Generation;

/// <summary>Sequences that are generated together have the tokens that each has alone.</summary>
public sealed class BatchGeneratorTests : IDisposable
{
    private static readonly ModelConfig Tiny = ModelPresets.Get("tiny") with { InitializerRange = 0.2 };

    private readonly ComputePool _pool = new(2);
    private readonly CpuDevice _device;

    public BatchGeneratorTests() => _device = new(_pool, "cpu:0");

    /// <summary>Prompts shorter and longer than a page, ends at different steps, greedy and drawn.</summary>
    private static Continuation[] Requests =>
    [
        new([5, 80, 101, 7], 20, [], SamplingOptions.Greedy),
        new([.. Enumerable.Range(0, 70).Select(i => i * 13 % 250)], 9, [], new(Temperature: 1, Seed: 3)),
        new([1], 80, [], new(Temperature: 0.9f, TopP: 0.9f, Seed: 4)),
        new([9, 9], 1, [], SamplingOptions.Greedy),
        new([.. Enumerable.Range(0, 63)], 3, [], new(Temperature: 1, TopK: 20, Seed: 5)),
    ];

    [Theory]
    [InlineData("fp32", true)]
    [InlineData("fp32", false)]
    [InlineData("bf16", true)]
    [InlineData("fp8", true)]
    public async Task A_batch_has_the_tokens_of_each_alone(string precision, bool masters)
    {
        using LocalModel model = await LoadAsync(precision, masters);
        int[][] together = await GenerateAsync(model, Requests);
        for (int i = 0; i < Requests.Length; i++)
        {
            Assert.Equal((await GenerateAsync(model, [Requests[i]]))[0], together[i]);
            Assert.Equal(Requests[i].MaxTokens, together[i].Length);
        }

        Assert.True(together[2].Distinct().Count() > 3);
    }

    [Theory]
    [InlineData("bf16")]
    [InlineData("fp8")]
    [InlineData("mxfp8")]
    public async Task Weights_without_masters_give_the_same_tokens_in_less_memory(string precision)
    {
        using LocalModel trained = await LoadAsync(precision, masters: true);
        int[][] expected = await GenerateAsync(trained, Requests);
        long all = _device.ReservedBytes;
        using LocalModel kept = await LoadAsync(precision, masters: false);
        Assert.Equal(expected, await GenerateAsync(kept, Requests));
        Assert.InRange(_device.ReservedBytes - all, 1, all - 1);
        Assert.Equal(trained.ParameterSets.Sum(set => set.Count), kept.ParameterSets.Sum(set => set.Count));
        InvalidOperationException refused = await Assert.ThrowsAsync<InvalidOperationException>(
            () => kept.PrepareForTrainingAsync(DType.Float32));
        Assert.Contains("inference", refused.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("fp32")]
    [InlineData("bf16")]
    [InlineData("fp8")]
    public async Task Steps_that_the_device_repeats_give_the_same_tokens(string precision)
    {
        using LocalModel called = await LoadAsync(precision, masters: true);
        int[][] expected = await GenerateAsync(called, Requests);
        using var pool = new ComputePool(2);
        using var separate = new SeparateMemoryDevice(new CpuDevice(pool, "cpu:1"));
        using LocalModel repeated = await LoadAsync(precision, masters: false, separate);
        Assert.Equal(expected, await GenerateAsync(repeated, Requests));
        // Two stages run each step behind the prompts.
        Assert.Equal(2 * 79, separate.Repetitions);
        Assert.Equal(expected[2..3], await GenerateAsync(repeated, Requests[2..3]));
    }

    [Theory]
    [InlineData("fp32")]
    [InlineData("fp8")]
    public async Task Greedy_steps_of_a_whole_model_go_ahead_with_the_same_tokens(string precision)
    {
        using LocalModel called = await LoadAsync(precision, masters: true, stages: 1);
        Continuation[] requests = Array.ConvertAll(
            Requests[..4], request => request with { Sampling = SamplingOptions.Greedy });
        int[][] expected = await GenerateAsync(called, requests);
        // An end within the tokens of one call, where the others go on.
        int stop = expected[2][20];
        requests[2] = requests[2] with { StopTokens = [stop] };
        expected[2] = expected[2][..(Array.IndexOf(expected[2], stop) + 1)];
        using var pool = new ComputePool(2);
        using var separate = new SeparateMemoryDevice(new CpuDevice(pool, "cpu:1"));
        using LocalModel repeated = await LoadAsync(precision, masters: false, separate, stages: 1);
        var decoder = new LocalDecoder(repeated);
        Assert.Equal(expected, await decoder.GenerateAsync(requests));
        Assert.InRange(decoder.Calls, 5, separate.Repetitions / 2);
        // Another session, from the beginning, as pages of the first were given back.
        Assert.Equal(expected[..1], await GenerateAsync(repeated, requests[..1]));
    }

    [Fact]
    public async Task Whole_sequences_without_a_cache_have_the_same_tokens()
    {
        using LocalModel model = await LoadAsync("fp32", masters: true);
        Continuation[] requests = [.. Requests.Select(request => request with { MaxTokens = Math.Min(6, request.MaxTokens) })];
        Assert.Equal(await GenerateAsync(model, requests), await GenerateAsync(model, requests, useCache: false));
    }

    [Fact]
    public async Task A_stop_token_ends_its_sequence_alone()
    {
        using LocalModel model = await LoadAsync("fp32", masters: true);
        int[][] free = await GenerateAsync(model, Requests);
        int stop = free[2][5];
        Continuation[] requests = Requests;
        requests[2] = requests[2] with { StopTokens = [stop] };
        int[][] stopped = await GenerateAsync(model, requests);
        Assert.Equal(free[2][..(Array.IndexOf(free[2], stop) + 1)], stopped[2]);
        Assert.Equal(free[0], stopped[0]);
    }

    [Fact]
    public void Pages_of_an_ended_sequence_serve_another()
    {
        using var cache = new LatentKvCache(_device, 2, 12, DType.BFloat16, [100, 64, 65]);
        Assert.Equal((2, 5), (cache.MostPages, cache.FreePages));
        cache.Reserve(0, 65);
        cache.Advance(0, 65);
        cache.Reserve(1, 1);
        Assert.Equal(2, cache.FreePages);
        int[] table = new int[4];
        cache.FillTable([1, 0], table);
        Assert.Equal([2, 0, 0, 1], table);
        cache.End(0);
        Assert.Equal((4, 0), (cache.FreePages, cache.LengthOf(0)));
        cache.Reserve(2, 65);
        cache.FillTable([2, 1], table);
        Assert.Equal([0, 1, 2, 0], table);
        InvalidOperationException full = Assert.Throws<InvalidOperationException>(() => cache.Reserve(1, 65));
        Assert.Contains("of 64 tokens of sequence 1", full.Message, StringComparison.Ordinal);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _device.Dispose();
        _pool.Dispose();
    }

    private Task<LocalModel> LoadAsync(string precision, bool masters, IDevice? device = null, int stages = 2)
    {
        PrecisionRecipe recipe = PrecisionRecipe.Get(precision);
        return LocalModel.LoadAsync(
            Tiny, device ?? _device, new SeededParameters(3, Tiny.InitializerRange, onDevice: !masters), stages, maxPositions: 160,
            masters ? recipe : recipe.ForInference());
    }

    private static Task<int[][]> GenerateAsync(LocalModel model, Continuation[] requests, bool useCache = true) =>
        new LocalDecoder(model).GenerateAsync(requests, useCache, TestContext.Current.CancellationToken);
}
