using Krewe.Model.Kernels;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Kernels;

/// <content>Attention in its absorbed form over pages of latents.</content>
public abstract unsafe partial class KernelContract
{
    /// <summary>Sequence and position of each row of a decoding call.</summary>
    public static TheoryData<int[], int[]> DecodingCases => new()
    {
        { [0], [0] },
        { [0], [37] },
        { [0, 0], [130, 131] },
        { [0, 1, 2], [0, 63, 64] },
        { [2, 0, 1, 1], [300, 5, 255, 256] },
        { [.. Enumerable.Range(0, 17)], [.. Enumerable.Range(0, 17).Select(i => 11 * i)] },
        { [.. Enumerable.Repeat(1, 17)], [.. Enumerable.Range(5, 17)] },
    };

    /// <summary>The pages of every sequence lie anywhere; one is nobody's.</summary>
    private Tensor[] PagedCache(int[] sequences, int[] positions, int width, DType dtype)
    {
        int count = sequences.Max() + 1;
        int each = (positions.Max() / LatentPages.PageTokens) + 1;
        int[] pages = [.. Enumerable.Range(0, (count * each) + 1).OrderBy(page => (page * 7919) % 104729 % 31)];
        Tensor table = Data.Ints(pages.AsSpan(0, count * each));
        return
        [
            Data.Normal(dtype, pages.Length * LatentPages.PageTokens, width, gap: 3),
            table.Reshape(new(count, each)), Data.Ints(sequences), Data.Ints(positions),
        ];
    }

    private static LatentPages Pages(Tensor[] tensors, int first) =>
        new(tensors[first], tensors[first + 1], tensors[first + 2], tensors[first + 3]);

    [Theory]
    [MemberData(nameof(DecodingCases))]
    public void Absorbed_attention_agrees(int[] sequences, int[] positions)
    {
        foreach (int[] sizes in (int[][])[[2, 5, 2, 3], [4, 16, 8, 16], [6, 48, 32, 40]])
        {
            foreach (int latent in (ReadOnlySpan<int>)[7, 32, 264])
            {
                foreach (DType dtype in (ReadOnlySpan<DType>)[DType.Float32, DType.BFloat16])
                {
                    Data.Reset();
                    AttentionShape shape = Shape(sizes, [0]);
                    Compare(
                        $"sizes {string.Join('/', sizes)} latent {latent} {dtype}", Tolerance,
                        (k, t) => k.AbsorbedAttention(t[4], t[5], Pages(t, 0), t[6], shape),
                        [
                            .. PagedCache(sequences, positions, latent + shape.RopeDim, dtype),
                            Data.Normal(sequences.Length, shape.Heads * (shape.NopeDim + shape.RopeDim), gap: 2),
                            Data.Normal(shape.Heads * (shape.NopeDim + shape.ValueDim), latent, MathF.Pow(latent, -0.5f)),
                            Data.Garbage(sequences.Length, shape.Heads * shape.ValueDim, gap: 1),
                        ]);
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(DecodingCases))]
    public void Stored_latents_agree(int[] sequences, int[] positions)
    {
        foreach (DType dtype in (ReadOnlySpan<DType>)[DType.Float32, DType.BFloat16])
        {
            Data.Reset();
            Compare(
                $"{dtype}", 0, (k, t) => k.StoreLatents(t[4], t[5], Pages(t, 0)),
                [
                    .. PagedCache(sequences, positions, 36, dtype), Data.Normal(sequences.Length, 33, gap: 2),
                    Data.Normal(sequences.Length, 3, gap: 1),
                ]);
        }
    }

    [Fact]
    public void A_rows_bits_depend_on_its_sequence_alone()
    {
        AttentionShape shape = Shape([3, 16, 8, 16], [0]);
        int[] sequences = [0, 1, 2, 3, 4], positions = [70, 3, 300, 64, 0];
        Tensor[] t =
        [
            .. PagedCache(sequences, positions, 40, DType.Float32), Data.Normal(5, 3 * 24), Data.Normal(3 * 32, 32),
            Data.Garbage(5, 3 * 16),
        ];
        Tensor together = RunOnDevice(
            (k, x) => k.AbsorbedAttention(x[4], x[5], Pages(x, 0), x[6], shape), t)[6];
        Tensor apart = RunOnDevice(
            (k, x) =>
            {
                for (int r = 0; r < 5; r++)
                {
                    LatentPages own = Pages(x, 0) with
                    {
                        Sequences = x[2].SliceElements(r, 1),
                        Positions = x[3].SliceElements(r, 1),
                    };
                    k.AbsorbedAttention(x[4].SliceRows(r, 1), x[5], own, x[6].SliceRows(r, 1), shape);
                }
            },
            t)[6];
        TensorAssert.Same(together, apart, "together against one by one");
    }

    [Theory]
    [InlineData(0, 1)]
    [InlineData(0, 9)]
    [InlineData(130, 2)]
    [InlineData(5, 17)]
    public void Absorbed_attention_equals_the_expanded_form(int firstPosition, int rows)
    {
        const int Latent = 32;
        int tokens = firstPosition + rows;
        AttentionShape shape = Shape([3, 48, 32, 16], [0, tokens]);
        int keyValue = shape.Heads * (shape.NopeDim + shape.ValueDim);
        int[] sequences = new int[rows], all = new int[tokens];
        int pages = (tokens / LatentPages.PageTokens) + 1;
        Tensor[] result = RunOnDevice(
            (k, t) =>
            {
                var cache = new LatentPages(t[0], t[1], t[2], t[3]);
                k.StoreLatents(t[6], t[7], new(t[0], t[1], t[4], t[5]));
                k.AbsorbedAttention(t[8].SliceRows(firstPosition, rows), t[9], cache, t[10], shape);
                k.Linear(t[6], t[9], t[11]);
                k.Attention(t[8], t[11], t[7], t[12], t[13], shape);
            },
            [
                Data.Garbage(pages * LatentPages.PageTokens, Latent + 32),
                Data.Ints([.. Enumerable.Range(0, pages).Reverse()]).Reshape(new(1, pages)),
                Data.Ints(sequences), Data.Ints([.. Enumerable.Range(firstPosition, rows)]),
                Data.Ints(all), Data.Ints([.. Enumerable.Range(0, tokens)]),
                Data.Normal(tokens, Latent), Data.Normal(tokens, 32),
                Data.Normal(tokens, shape.Heads * 80), Data.Normal(keyValue, Latent, MathF.Pow(Latent, -0.5f)),
                Data.Garbage(rows, shape.Heads * 16), Data.Garbage(tokens, keyValue),
                Data.Garbage(tokens, shape.Heads * 16), Data.Garbage(shape.Heads, tokens),
            ]);
        TensorAssert.Close(
            result[12].SliceRows(firstPosition, rows), result[10], 5 * Tolerance, "against the expanded form");
    }

    [Fact]
    public void Absorbed_attention_rejects_wrong_shapes()
    {
        AttentionShape shape = Shape([2, 6, 4, 5], [0]);
        Tensor[] t =
        [
            .. PagedCache([0, 1], [3, 70], 11, DType.Float32), Data.Normal(2, 20), Data.Normal(22, 7), Data.Garbage(2, 10),
            Data.Ints(0, 128), Data.Ints(0, 2), Data.Ints(0, 1, 2, 99), Data.Normal(2, 7), Data.Normal(2, 4),
        ];
        AssertRejected("columns", (k, x) => k.AbsorbedAttention(x[4], x[5], Pages(x, 0) with { Rows = x[10] }, x[6], shape), t);
        AssertRejected(
            "half a page",
            (k, x) => k.AbsorbedAttention(x[4], x[5], Pages(x, 0) with { Rows = x[0].SliceRows(0, 96) }, x[6], shape), t);
        AssertRejected("position", (k, x) => k.AbsorbedAttention(x[4], x[5], Pages(x, 0) with { Positions = x[7] }, x[6], shape), t);
        AssertRejected("sequence", (k, x) => k.AbsorbedAttention(x[4], x[5], Pages(x, 0) with { Sequences = x[8] }, x[6], shape), t);
        AssertRejected(
            "page",
            (k, x) => k.AbsorbedAttention(
                x[4], x[5], Pages(x, 0) with { Table = x[9].Reshape(new(2, 2)) }, x[6], shape), t);
        AssertRejected("latents", (k, x) => k.StoreLatents(x[10].SliceColumns(0, 6), x[11], Pages(x, 0)), t);
        AssertRejected("place", (k, x) => k.StoreLatents(x[10], x[11], Pages(x, 0) with { Positions = x[7] }), t);
    }
}
