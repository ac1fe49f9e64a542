using Krewe.Model.Data;
using Xunit;

namespace Krewe.Model.Tests.Data;

public sealed class StableRandomTests
{
    [Fact]
    public void Numbers_are_those_of_splitmix64()
    {
        // The reference implementation's first outputs for seed 1234567.
        var random = new StableRandom(1234567);
        Assert.Equal(6457827717110365317UL, random.Next());
        Assert.Equal(3203168211198807973UL, random.Next());
        Assert.Equal(9817491932198370423UL, random.Next());
    }

    [Fact]
    public void Integers_are_even_and_in_range()
    {
        var random = new StableRandom(1);
        var counts = new int[7];
        for (int i = 0; i < 70_000; i++)
        {
            counts[random.NextInt(7)]++;
        }

        Assert.All(counts, count => Assert.InRange(count, 9_600, 10_400));
        Assert.Throws<ArgumentOutOfRangeException>(() => random.NextInt(0));
    }

    [Fact]
    public void Doubles_are_in_the_unit_interval()
    {
        var random = new StableRandom(2);
        double[] values = [.. Enumerable.Range(0, 10_000).Select(_ => random.NextDouble())];
        Assert.All(values, value => Assert.InRange(value, 0, 0.9999999999999999));
        Assert.InRange(values.Average(), 0.49, 0.51);
    }

    [Fact]
    public void Streams_differ_and_shuffles_are_permutations()
    {
        int[] Shuffled(ulong seed, ulong stream)
        {
            int[] values = [.. Enumerable.Range(0, 100)];
            new StableRandom(seed, stream).Shuffle(values.AsSpan());
            return values;
        }

        Assert.Equal(Shuffled(1, 2), Shuffled(1, 2));
        Assert.NotEqual(Shuffled(1, 2), Shuffled(2, 1));
        Assert.NotEqual(Shuffled(1, 1), Shuffled(2, 2));
        Assert.Equal(Enumerable.Range(0, 100), Shuffled(1, 2).Order());
    }
}
