using Krewe.Model.Configuration;
using Krewe.Model.Layers;
using Xunit;

namespace Krewe.Model.Tests.Layers;

/// <summary>Costs of layers, and the cut that spreads them.</summary>
public class StageRangeTests
{
    private static readonly ModelConfig V3 = ModelPresets.Get("671b");

    [Theory]
    [InlineData("tiny")]
    [InlineData("docs-26m")]
    [InlineData("3b")]
    [InlineData("16b")]
    [InlineData("671b")]
    public void Costs_are_the_weights_that_a_token_meets(string preset)
    {
        ModelConfig config = ModelPresets.Get(preset);
        ParameterCounts counts = ParameterCounts.Of(config);
        long latents = config.KvLoraRank + (config.QLoraRank ?? 0);
        long norms = 2 * config.HiddenSize;
        int moe = config.FirstKDenseReplace;
        long idle = (config.NRoutedExperts - config.NumExpertsPerTok) * counts.Expert;

        Assert.Equal(counts.Attention - latents, StageCost.Attention(config));
        Assert.Equal(counts.DenseLayer - latents - norms, StageCost.Layer(config, 0));
        Assert.Equal(counts.MoeLayer - latents - norms - idle, StageCost.Layer(config, moe));
    }

    [Fact]
    public void The_head_and_mtp_leave_the_last_of_sixteen_stages_one_layer()
    {
        StageRange[] ranges = StageRange.Partition(V3, 16);

        Assert.Equal([.. Enumerable.Repeat(4, 15), 1], ranges.Select(range => range.LayerCount));
        Assert.Equal(Enumerable.Range(0, 16).Select(stage => 4 * stage), ranges.Select(range => range.FirstLayer));
        Assert.Equal(StageCost.Stage(V3, ranges[15]), ranges.Max(range => StageCost.Stage(V3, range)));
    }

    [Fact]
    public void Under_dual_pipe_the_rank_with_the_head_of_both_directions_has_two_layers()
    {
        StageRange[] ranges = StageRange.PartitionMirrored(V3, 16, headOnce: true);

        Assert.Equal([1, 5, 5, 5, .. Enumerable.Repeat(4, 11), 1], ranges.Select(range => range.LayerCount));
        long[] costs = [.. ranges.Select(range => StageCost.Stage(V3, range))];
        long last = (costs[0] + costs[^1] + StageCost.Heads(V3)) / 2;
        Assert.All(Enumerable.Range(1, 14), rank => Assert.True((costs[rank] + costs[15 - rank]) / 2 < last));
        Assert.InRange(last / (costs.Sum() / 16.0), 1, 1.17);
    }

    [Fact]
    public void Under_dual_pipe_with_a_head_for_each_direction_the_cut_is_that_of_one_direction()
    {
        StageRange[] ranges = StageRange.PartitionMirrored(V3, 16, headOnce: false);

        Assert.Equal(StageRange.Partition(V3, 16), ranges);
        long[] costs = [.. ranges.Select(range => StageCost.Stage(V3, range))];
        Assert.InRange((costs[0] + costs[^1]) / 2 / (costs.Sum() / 16.0), 1, 1.15);
    }

    [Fact]
    public void No_other_mirrored_cut_has_a_cheaper_rank()
    {
        var random = new Random(3);
        for (int round = 0; round < 300; round++)
        {
            long[] costs = [.. Enumerable.Range(0, random.Next(4, 10)).Select(_ => (long)random.Next(0, 7))];
            long tail = random.Next(0, 12);
            long once = random.NextInt64(0, tail + 1);
            int runs = random.Next(3, Math.Min(costs.Length, 6) + 1);

            int[] lengths = StagePartitioner.CutMirrored(costs, tail, once, runs);

            Assert.Equal(costs.Length, lengths.Sum());
            Assert.DoesNotContain(0, lengths);
            Assert.Equal(
                AllCuts(costs.Length, runs).Min(cut => LargestRank(costs, tail, once, cut)),
                LargestRank(costs, tail, once, lengths));
        }
    }

    [Fact]
    public void Without_mtp_and_with_a_small_head_stages_are_even()
    {
        ModelConfig plain = V3 with { NumNextnPredictLayers = 0, VocabSize = 64, NumHiddenLayers = 61 };
        Assert.Equal([8, 8, 8, 8, 8, 7, 7, 7], StageRange.Partition(plain, 8).Select(range => range.LayerCount));
        Assert.Equal([61], StageRange.Partition(plain, 1).Select(range => range.LayerCount));
        Assert.All(StageRange.Partition(plain, 61), range => Assert.Equal(1, range.LayerCount));
    }

    [Fact]
    public void No_other_cut_is_better()
    {
        var random = new Random(3);
        for (int round = 0; round < 300; round++)
        {
            long[] costs = [.. Enumerable.Range(0, random.Next(1, 9)).Select(_ => (long)random.Next(0, 7))];
            long tail = random.Next(0, 12);
            int runs = random.Next(1, costs.Length + 1);

            int[] lengths = StagePartitioner.Cut(costs, tail, runs);

            Assert.Equal(costs.Length, lengths.Sum());
            Assert.DoesNotContain(0, lengths);
            (long, long) found = Score(costs, tail, lengths);
            Assert.Equal(AllCuts(costs.Length, runs).Min(cut => Score(costs, tail, cut)), found);
            Assert.Equal(lengths, StagePartitioner.Cut(costs, tail, runs));
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(62)]
    public void More_stages_than_layers_are_refused(int stages) => Assert.Equal(
        $"{stages} stages do not fit 61 layers: ask for 1 to 61",
        Assert.Throws<KreweException>(() => StageRange.Partition(V3, stages)).Message);

    private static (long Largest, long Squares) Score(long[] costs, long tail, int[] lengths)
    {
        int first = 0;
        var sums = new List<long>();
        foreach (int length in lengths)
        {
            sums.Add(costs.AsSpan(first, length).ToArray().Sum());
            first += length;
        }

        sums[^1] += tail;
        return (sums.Max(), sums.Sum(sum => sum * sum));
    }

    /// <summary>Twice the cost of the last rank, or of the costliest inner run.</summary>
    private static long LargestRank(long[] costs, long tail, long once, int[] lengths)
    {
        int first = lengths[0], last = lengths[^1];
        (long inner, _) = Score(costs[first..^last], 0, lengths[1..^1]);
        return Math.Max(costs[..first].Sum() + costs[^last..].Sum() + tail + once, 2 * inner);
    }

    private static IEnumerable<int[]> AllCuts(int layers, int runs) => runs == 1
        ? [[layers]]
        : Enumerable.Range(1, layers - runs + 1)
            .SelectMany(first => AllCuts(layers - first, runs - 1).Select(rest => (int[])[first, .. rest]));
}
