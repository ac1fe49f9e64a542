using Krewe.Model.Kernels;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Kernels;

/// <content>Matrix products.</content>
public abstract unsafe partial class KernelContract
{
    private static readonly int[] _sizes = [1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 65, 100];

    /// <summary>What operands of products are stored in.</summary>
    public static TheoryData<DType> OperandTypes => [DType.Float32, DType.BFloat16];

    /// <summary>Every pair of sizes with a third that walks along, decode shapes, and a few large ones.</summary>
    private static IEnumerable<(int M, int N, int D)> ProductShapes()
    {
        for (int a = 0; a < _sizes.Length; a++)
        {
            for (int b = 0; b < _sizes.Length; b++)
            {
                int third = _sizes[(a + (5 * b) + 3) % _sizes.Length];
                yield return (_sizes[a], _sizes[b], third);
                yield return (1, _sizes[a], _sizes[b]);
                yield return (third, _sizes[a], _sizes[b]);
            }
        }

        yield return (1, 520, 300);
        yield return (4, 300, 520);
        yield return (70, 129, 257);
        yield return (200, 40, 64);
        yield return (264, 136, 520);
        yield return (128, 512, 72);
        yield return (700, 32, 90);
        yield return (700, 9, 40);
        yield return (0, 5, 7);
        yield return (5, 7, 0);
    }

    [Theory]
    [MemberData(nameof(OperandTypes))]
    public void Linear_agrees_over_all_shapes(DType type)
    {
        int turn = 0;
        foreach ((int m, int n, int d) in ProductShapes())
        {
            Data.Reset();
            int gap = Gap(turn);
            bool accumulate = turn++ % 2 == 1;
            Compare(
                $"M={m} N={n} D={d} gap={gap} accumulate={accumulate} {type}", ProductToleranceOf(type),
                (k, t) => k.Linear(t[0], t[1], t[2], accumulate),
                Data.Normal(type, m, d, gap), Data.Normal(type, n, d, gap),
                accumulate ? Data.Normal(m, n, gap: gap) : Data.Garbage(m, n, gap: gap));
        }
    }

    [Theory]
    [MemberData(nameof(OperandTypes))]
    public void Linear_backward_input_agrees_over_all_shapes(DType type)
    {
        int turn = 0;
        foreach ((int m, int n, int d) in ProductShapes())
        {
            Data.Reset();
            int gap = Gap(turn);
            bool accumulate = turn++ % 2 == 1;
            Compare(
                $"M={m} N={n} D={d} gap={gap} accumulate={accumulate} {type}", ProductToleranceOf(type),
                (k, t) => k.LinearBackwardInput(t[0], t[1], t[2], accumulate),
                Data.Normal(type, m, n, gap), Data.Normal(type, n, d, gap),
                accumulate ? Data.Normal(m, d, gap: gap) : Data.Garbage(m, d, gap: gap));
        }
    }

    [Theory]
    [MemberData(nameof(OperandTypes))]
    public void Linear_backward_weight_agrees_over_all_shapes(DType type)
    {
        int turn = 0;
        foreach ((int m, int n, int d) in ProductShapes())
        {
            Data.Reset();
            int gap = Gap(turn++);
            Compare(
                $"M={m} N={n} D={d} gap={gap} {type}", ProductToleranceOf(type),
                (k, t) => k.LinearBackwardWeight(t[0], t[1], t[2]),
                Data.Normal(type, m, n, gap), Data.Normal(type, m, d, gap), Data.Normal(n, d, gap: gap));
        }
    }

    /// <summary>Rows about the ends of chains; with few weights, with many, and with as many as fill a card.</summary>
    [Theory]
    [InlineData(1023, 20, 36)]
    [InlineData(1024, 20, 36)]
    [InlineData(1025, 20, 36)]
    [InlineData(3000, 7, 100)]
    [InlineData(5121, 70, 65)]
    [InlineData(1100, 16, 4240)]
    [InlineData(5300, 520, 520)]
    public void Weight_gradients_of_many_rows_agree(int m, int n, int d)
    {
        foreach (int gap in (ReadOnlySpan<int>)[0, 3])
        {
            Data.Reset();
            Compare(
                $"M={m} N={n} D={d} gap={gap}", ProductTolerance, (k, t) => k.LinearBackwardWeight(t[0], t[1], t[2]),
                Data.Normal(m, n, gap: gap), Data.Normal(m, d, gap: gap), Data.Normal(n, d, gap: gap));
        }
    }

    [Theory]
    [MemberData(nameof(OperandTypes))]
    public void Grouped_weight_gradients_of_many_rows_agree(DType type)
    {
        int[] counts = [1500, 0, 3, 2100, 1024];
        const int N = 24, D = 40, Source = 700;
        int total = counts.Sum();
        GroupedProduct[] Items(Tensor[] t)
        {
            var items = new GroupedProduct[counts.Length];
            for (int g = 0, start = 0; g < items.Length; start += counts[g++])
            {
                items[g] = new(
                    t[0], t[1].SliceRows(g * N, N), t[2].SliceRows(start, counts[g]),
                    new Tensor(t[3].Address + (start * 4), new TensorShape(counts[g]), DType.Int32));
            }

            return items;
        }

        Compare(
            $"groups of many rows, {type}", ProductToleranceOf(type), (k, t) => k.GroupedLinearBackwardWeight(Items(t)),
            Data.Normal(type, Source, D), Data.Normal(counts.Length * N, D), Data.Normal(type, total, N),
            Data.RandomInts(total, 0, Source));
    }

    [Fact]
    public void A_weight_gradient_adds_a_chain_for_each_1024_rows()
    {
        const int M = 2500, N = 17, D = 70;
        Tensor gradient = Data.Normal(N, D);
        Tensor[] all =
        [
            Data.Normal(M, N), Data.Normal(M, D), gradient, Clone(gradient), Data.Filled(N, D, 0),
            Data.Filled(N, D, 0),
        ];
        Tensor[] result = RunOnDevice(
            (k, t) =>
            {
                k.LinearBackwardWeight(t[0], t[1], t[2]);
                for (int start = 0, part = 3; start < M; start += IKernels.RowsOfChain, part++)
                {
                    int rows = Math.Min(IKernels.RowsOfChain, M - start);
                    k.LinearBackwardWeight(t[0].SliceRows(start, rows), t[1].SliceRows(start, rows), t[part]);
                }

                k.Add(t[4], t[3]);
                k.Add(t[5], t[3]);
            },
            all);
        TensorAssert.Same(result[3], result[2], "chain by chain against one call");
    }

    [Fact]
    public void A_hand_made_product()
    {
        Tensor input = Data.Vector(1, 2, 3, 4, 5, 6).Reshape(new(2, 3));
        Tensor weight = Data.Vector(1, 0, -1, 2, 1, 0).Reshape(new(2, 3));
        Tensor[] result = RunOnDevice((k, t) => k.Linear(t[0], t[1], t[2]), [input, weight, Data.Garbage(2, 2)]);
        Assert.Equal([-2f, 4, -2, 13], result[2].AsSpan<float>().ToArray());
    }

    [Fact]
    public void A_row_does_not_depend_on_the_rows_beside_it()
    {
        const int M = 37, N = 53, D = 100;
        Tensor input = Data.Normal(M, D);
        Tensor gradOutput = Data.Normal(M, N);
        Tensor weight = Data.Normal(N, D);
        Tensor[] all = [input, weight, Data.Garbage(M, N), gradOutput, Data.Garbage(M, D)];
        void Whole(IKernels k, Tensor[] t)
        {
            k.Linear(t[0], t[1], t[2]);
            k.LinearBackwardInput(t[3], t[1], t[4]);
        }

        Tensor[] whole = RunOnDevice(Whole, all);
        foreach (int rows in (int[])[1, 2, 5, 8, 16, 36])
        {
            Tensor[] parts = RunOnDevice(
                (k, t) =>
                {
                    for (int start = 0; start < M; start += rows)
                    {
                        int count = Math.Min(rows, M - start);
                        k.Linear(t[0].SliceRows(start, count), t[1], t[2].SliceRows(start, count));
                        k.LinearBackwardInput(t[3].SliceRows(start, count), t[1], t[4].SliceRows(start, count));
                    }
                },
                all);
            TensorAssert.Same(whole[2], parts[2], $"output, {rows} rows at a time");
            TensorAssert.Same(whole[4], parts[4], $"gradInput, {rows} rows at a time");
        }
    }

    [Fact]
    public void A_weight_gradient_does_not_depend_on_how_its_rows_are_split()
    {
        const int M = 41, N = 19, D = 33;
        Tensor[] all = [Data.Normal(M, N), Data.Normal(M, D), Data.Normal(N, D)];
        Tensor whole = RunOnDevice((k, t) => k.LinearBackwardWeight(t[0], t[1], t[2]), all)[2];
        foreach (int split in (int[])[1, 8, 23, 40])
        {
            Tensor parts = RunOnDevice(
                (k, t) =>
                {
                    k.LinearBackwardWeight(t[0].SliceRows(0, split), t[1].SliceRows(0, split), t[2]);
                    k.LinearBackwardWeight(t[0].SliceRows(split, M - split), t[1].SliceRows(split, M - split), t[2]);
                },
                all)[2];
            TensorAssert.Same(whole, parts, $"split at {split}");
        }
    }

    /// <summary>Rows per group: empty groups, single rows, and one group much larger than the others.</summary>
    public static TheoryData<int[]> Groups => new(
        (int[][])[
            [4], [0], [1, 0, 3], [0, 0, 65, 1], [7, 16, 0, 33, 2, 1], [1, 1, 1, 1, 1, 1, 1, 1], [300, 0, 129, 8]]);

    /// <summary>Each of <see cref="Groups"/> with each of <see cref="OperandTypes"/>.</summary>
    public static MatrixTheoryData<int[], DType> TypedGroups => new(
        Groups.Select(row => row.Data), OperandTypes.Select(row => row.Data));

    [Theory]
    [MemberData(nameof(TypedGroups))]
    public void Grouped_products_agree(int[] counts, DType type)
    {
        foreach ((int n, int d) in (ReadOnlySpan<(int, int)>)[(17, 33), (64, 48), (5, 100), (136, 264)])
        {
            foreach (bool gather in (ReadOnlySpan<bool>)[false, true])
            {
                Data.Reset();
                int total = counts.Sum();
                int source = gather ? 50 : total;
                Tensor rows = Data.RandomInts(total, 0, source);
                int gap = n % 8 == 0 ? 8 : 3;
                Tensor weights = Data.Normal(type, counts.Length * n, d, gap);
                Tensor gradients = Data.Normal(counts.Length * n, d, gap: gap);
                double tolerance = ProductToleranceOf(type);
                string context = $"groups {string.Join(',', counts)} N={n} D={d} gather={gather} {type}";

                GroupedProduct[] Items(Tensor input, Tensor weight, Tensor output, Tensor rowNumbers)
                {
                    var items = new GroupedProduct[counts.Length];
                    for (int g = 0, start = 0; g < items.Length; start += counts[g++])
                    {
                        Tensor part = gather ? input : input.SliceRows(start, counts[g]);
                        Tensor numbers = gather
                            ? new Tensor(rowNumbers.Address + (start * 4), new TensorShape(counts[g]), DType.Int32)
                            : default;
                        items[g] = new(
                            part, weight.SliceRows(g * n, n), output.SliceRows(start, counts[g]), numbers, g % 2 == 1);
                    }

                    return items;
                }

                Compare(
                    context + " forward", tolerance, (k, t) => k.GroupedLinear(Items(t[0], t[1], t[2], t[3])),
                    Data.Normal(type, source, d), weights, Data.Normal(total, n), rows);
                Compare(
                    context + " backward input", tolerance,
                    (k, t) => k.GroupedLinearBackwardInput(Items(t[0], t[1], t[2], t[3])),
                    Data.Normal(type, source, n), weights, Data.Normal(total, d), rows);
                Compare(
                    context + " backward weight", tolerance,
                    (k, t) => k.GroupedLinearBackwardWeight(Items(t[0], t[1], t[2], t[3])),
                    Data.Normal(type, source, d), gradients, Data.Normal(type, total, n, gap: n % 8 == 0 ? 8 : 2), rows);
            }
        }
    }

    private double ProductToleranceOf(DType type) =>
        type == DType.BFloat16 ? BFloat16ProductTolerance : ProductTolerance;

    /// <summary>Dense rows, rows apart by as much as aligned copies allow, and by less.</summary>
    private static int Gap(int turn) => (turn % 6) switch { 0 => 5, 3 => 8, _ => 0 };

    [Fact]
    public void A_grouped_product_equals_the_single_one()
    {
        Tensor[] all = [Data.Normal(20, 31), Data.Normal(9, 31), Data.Garbage(20, 9), Data.Garbage(20, 9)];
        Tensor[] result = RunOnDevice(
            (k, t) =>
            {
                k.Linear(t[0], t[1], t[2]);
                k.GroupedLinear(
                [
                    new(t[0].SliceRows(0, 13), t[1], t[3].SliceRows(0, 13)),
                    new(t[0].SliceRows(13, 7), t[1], t[3].SliceRows(13, 7)),
                ]);
            },
            all);
        TensorAssert.Same(result[2], result[3], "grouped against single");
    }
}
