using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Kernels;

/// <content>Row kernels and the loss.</content>
public abstract unsafe partial class KernelContract
{
    [Fact]
    public void Sum_rows_agrees() => EveryLength((length, gap, context) =>
    {
        foreach (bool scaled in (ReadOnlySpan<bool>)[false, true])
        {
            bool accumulate = length % 2 == 0;
            Compare(
                $"{context} scaled {scaled} accumulate {accumulate}", 0,
                (k, t) => k.SumRows(t[0], t[1], t[2], t[3], t[4], accumulate),
                Data.Normal(7, length, gap: gap), Data.RandomInts(9, 0, 7), scaled ? Data.NormalVector(9) : default,
                Data.Ints(0, 3, 3, 4, 9),
                accumulate ? Data.Normal(4, length, gap: gap) : Data.Garbage(4, length, gap: gap));
        }
    });

    [Fact]
    public void Sum_rows_of_an_empty_range_is_zero()
    {
        Tensor[] result = RunOnDevice(
            (k, t) => k.SumRows(t[0], t[1], default, t[2], t[3]),
            [Data.Normal(2, 19), Data.GarbageVector(0, DType.Int32), Data.Ints(0, 0), Data.Garbage(1, 19)]);
        Assert.All(result[3].AsSpan<float>().ToArray(), value => Assert.Equal(0, value));
    }

    [Fact]
    public void Gather_rows_agrees() => EveryLength((length, gap, context) => Compare(
        context, 0, (k, t) => k.GatherRows(t[0], t[1], t[2], t[3]),
        Data.Normal(5, length, gap: gap), Data.RandomInts(8, 0, 5),
        length % 2 == 0 ? Data.NormalVector(8) : default, Data.Garbage(8, length, gap: gap)));

    [Fact]
    public void Dot_rows_agrees() => EveryLength((length, gap, context) => Compare(
        context, Tolerance, (k, t) => k.DotRows(t[0], t[1], t[2], t[3], t[4]),
        Data.Normal(5, length, gap: gap), Data.RandomInts(8, 0, 5), Data.Normal(4, length), Data.RandomInts(8, 0, 4),
        Data.GarbageVector(8)));

    [Fact]
    public void Embedding_backward_agrees() => EveryLength((length, gap, context) => Compare(
        context, 0, (k, t) => k.EmbeddingBackward(t[0], t[1], t[2]),
        Data.Normal(9, length, gap: gap), Data.RandomInts(9, -1, 4), Data.Normal(4, length, gap: gap)));

    /// <summary>Rows of several parts, with ends of their own.</summary>
    [Theory]
    [InlineData(1024)]
    [InlineData(1030)]
    [InlineData(3000)]
    public void Wide_rows_agree(int length)
    {
        Tensor source = Data.Normal(7, length), rows = Data.RandomInts(9, 0, 7), scale = Data.NormalVector(9);
        Compare(
            $"sum {length}", 0, (k, t) => k.SumRows(t[0], t[1], t[2], t[3], t[4]),
            source, rows, scale, Data.Ints(0, 3, 3, 4, 9), Data.Garbage(4, length));
        Compare(
            $"gather {length}", 0, (k, t) => k.GatherRows(t[0], t[1], t[2], t[3]),
            source, rows, scale, Data.Garbage(9, length));
        Compare(
            $"dot {length}", Tolerance, (k, t) => k.DotRows(t[0], t[1], t[2], t[3], t[4]),
            source, rows, Data.Normal(7, length), rows, Data.GarbageVector(9));
        Compare(
            $"norm {length}", Tolerance, (k, t) => k.RmsNorm(t[0], t[1], t[2], t[3], 1e-6f),
            source, Data.NormalVector(length), Data.Garbage(7, length), Data.GarbageVector(7));
        Compare(
            $"norm backward {length}", Tolerance,
            (k, t) => k.RmsNormBackwardInput(t[0], t[1], t[2], t[3], t[4], accumulate: true),
            source, Data.Normal(7, length), Data.NormalVector(length), Data.NormalVector(7), Data.Normal(7, length));
    }

    [Theory]
    [InlineData(5000, 3)]
    [InlineData(5000, 4000)]
    public void Embedding_backward_of_many_tokens_agrees(int tokens, int vocabulary) => Compare(
        $"{tokens} tokens of {vocabulary}", 0, (k, t) => k.EmbeddingBackward(t[0], t[1], t[2]),
        Data.Normal(tokens, 40), Data.RandomInts(tokens, -1, vocabulary), Data.Normal(vocabulary, 40));

    [Theory]
    [InlineData(DType.Float32)]
    [InlineData(DType.BFloat16)]
    public void Rounded_cross_entropy_has_the_bits_of_both_kernels(DType stored)
    {
        foreach (int columns in (ReadOnlySpan<int>)[1, 70, 8192, 8200])
        {
            Data.Reset();
            Tensor[] all =
            [
                Data.Normal(4, columns, 4, gap: 3), Data.RandomInts(4, -1, columns), Data.GarbageVector(4),
                Data.Garbage(4, columns, stored), Data.GarbageVector(4), Data.Garbage(4, columns, stored, gap: 2),
                Data.Garbage(4, columns),
            ];
            Tensor[] result = RunOnDevice(
                (k, t) =>
                {
                    k.Copy(t[0], t[6]);
                    k.CrossEntropy(t[0], t[1], t[2], 0.125f);
                    k.RoundToBFloat16(t[0], t[3]);
                    k.CrossEntropyRounded(t[6], t[1], t[4], 0.125f, t[5]);
                },
                all);
            TensorAssert.Same(result[2], result[4], $"losses, V={columns}");
            TensorAssert.Same(result[3], result[5], $"gradients, V={columns}");
        }
    }

    [Fact]
    public void Cross_entropy_agrees() => EveryLength((length, gap, context) =>
    {
        foreach (float gradScale in (ReadOnlySpan<float>)[0, 0.125f])
        {
            Compare(
                $"{context} gradScale {gradScale}", Tolerance, (k, t) => k.CrossEntropy(t[0], t[1], t[2], gradScale),
                Data.Normal(4, length, 4, gap), Data.RandomInts(4, -1, length), Data.GarbageVector(4));
        }
    });

    [Theory]
    [InlineData(8192)]
    [InlineData(8193)]
    [InlineData(32_768)]
    [InlineData(50_001)]
    public void Cross_entropy_of_a_vocabulary_agrees(int vocabulary) => Compare(
        $"V={vocabulary}", Tolerance, (k, t) => k.CrossEntropy(t[0], t[1], t[2], 1),
        Data.Normal(2, vocabulary, 3), Data.Ints(17, vocabulary - 1), Data.GarbageVector(2));

    [Fact]
    public void Cross_entropy_of_even_logits_is_the_log_of_the_vocabulary()
    {
        Tensor[] result = RunOnDevice(
            (k, t) => k.CrossEntropy(t[0], t[1], t[2], 2),
            [Data.Filled(2, 10, 300), Data.Ints(3, -1), Data.GarbageVector(2)]);
        Assert.Equal(Math.Log(10), result[2].Floats[0], 1e-4);
        Assert.Equal(0, result[2].Floats[1]);
        Assert.Equal(0.2, result[0].Row(0)[0], 1e-4);
        Assert.Equal(-1.8, result[0].Row(0)[3], 1e-4);
        Assert.All(result[0].Row(1).ToArray(), value => Assert.Equal(0, value));
    }

    [Fact]
    public void Arg_max_takes_the_lowest_of_the_largest()
    {
        foreach (int columns in (ReadOnlySpan<int>)[1, 2, 31, 33, 257, 5000])
        {
            Compare(
                $"V={columns}", 0, (k, t) => k.ArgMax(t[0], t[1]),
                Data.Normal(3, columns, gap: 2), Data.GarbageVector(3, DType.Int32));
        }

        Tensor ties = Data.Filled(3, 700, -2);
        (ties.Row(0)[699], ties.Row(0)[300], ties.Row(0)[44]) = (5, 5, 4);
        ties.Row(2).Fill(float.NegativeInfinity);
        Tensor[] result = RunOnDevice((k, t) => k.ArgMax(t[0], t[1]), [ties, Data.GarbageVector(3, DType.Int32)]);
        Assert.Equal([300, 0, 0], result[1].AsSpan<int>().ToArray());
    }
}
