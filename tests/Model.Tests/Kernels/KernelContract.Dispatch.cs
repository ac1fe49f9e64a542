using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Kernels;

/// <content>Dispatch and combine of experts that live on the device: sizes are read where they are.</content>
public abstract unsafe partial class KernelContract
{
    /// <summary>Tokens, experts, choices, experts of a canonical group, channels, width.</summary>
    public static TheoryData<int, int, int, int, int, int> Layers => new()
    {
        { 1, 1, 1, 1, 8, 8 },
        { 3, 4, 2, 2, 5, 17 },
        { 20, 16, 4, 2, 24, 16 },
        { 65, 8, 8, 4, 33, 40 },
        { 300, 5, 2, 5, 64, 48 },
        { 700, 32, 4, 4, 136, 72 },
        { 130, 256, 8, 32, 128, 264 },
        { 1500, 3, 1, 1, 260, 128 },
    };

    [Theory]
    [MemberData(nameof(Layers))]
    public void A_dispatch_is_planned_in_the_order_of_the_hosts_plan(
        int tokens, int experts, int topK, int groupSize, int channels, int width)
    {
        _ = (groupSize, channels, width);
        foreach (int skipped in (ReadOnlySpan<int>)[0, experts - topK])
        {
            Data.Reset();
            int[][] choice = Choice(tokens, experts, topK, skipped);
            Tensor[] result = Compared(
                $"T={tokens} E={experts} K={topK} skipped={skipped}", 0,
                (k, t) => k.PlanDispatch(t[0], TableOf(t)), TableTensors(choice, experts));
            int[] order = [.. Enumerable.Range(0, tokens * topK).OrderBy(slot => choice[slot / topK][slot % topK])];
            Assert.Equal(order.Select(slot => slot / topK), result[2].AsSpan<int>().ToArray());
            int[] assignments = result[3].AsSpan<int>().ToArray();
            Assert.All(order.Index(), pair => Assert.Equal(pair.Index, assignments[pair.Item]));
            int before = 0, columns = 0;
            int[] offsets = result[1].AsSpan<int>().ToArray();
            for (int expert = 0; expert < experts; expert++)
            {
                Assert.Equal(before, offsets[expert]);
                Assert.Equal(columns, offsets[experts + 1 + expert]);
                int load = choice.Sum(row => row.Count(chosen => chosen == expert));
                before += load;
                columns += (load + 127) / 128 * 128;
            }

            Assert.Equal((before, columns), (offsets[experts], offsets[^1]));
            Assert.InRange(columns, 0, TableOf(result).TurnedColumns);
        }
    }

    [Theory]
    [MemberData(nameof(Layers))]
    public void Combining_experts_agrees(int tokens, int experts, int topK, int groupSize, int channels, int width)
    {
        _ = width;
        foreach (DType precision in (ReadOnlySpan<DType>)[DType.Float32, DType.BFloat16])
        {
            foreach (bool weighted in (ReadOnlySpan<bool>)[true, false])
            {
                Data.Reset();
                Tensor[] tensors =
                [
                    .. TableTensors(Choice(tokens, experts, topK, 0), experts),
                    Data.Normal(tokens * topK, channels, gap: 4), weighted ? Data.Normal(tokens, topK, gap: 1) : default,
                    Data.Normal(tokens, channels, gap: 8),
                ];
                Compare(
                    $"T={tokens} E={experts} K={topK} D={channels} {precision} weighted={weighted}", 0,
                    (k, t) =>
                    {
                        k.PlanDispatch(t[0], TableOf(t));
                        k.CombineExperts(t[4], TableOf(t), t[0], t[5], groupSize, precision, t[6]);
                    },
                    tensors);
            }
        }
    }

    [Theory]
    [MemberData(nameof(Layers))]
    public void Combining_experts_backward_agrees(
        int tokens, int experts, int topK, int groupSize, int channels, int width)
    {
        _ = (groupSize, width);
        foreach (DType precision in (ReadOnlySpan<DType>)[DType.Float32, DType.BFloat16])
        {
            Data.Reset();
            Tensor[] tensors =
            [
                .. TableTensors(Choice(tokens, experts, topK, 0), experts), Data.Normal(tokens, channels, gap: 4),
                Data.Normal(tokens * topK, channels), Data.Normal(tokens, topK),
                Data.Garbage(tokens * topK, channels, precision, gap: 8), Data.Garbage(tokens, topK, gap: 1),
            ];
            Compare(
                $"T={tokens} E={experts} K={topK} D={channels} {precision}", Tolerance,
                (k, t) =>
                {
                    k.PlanDispatch(t[0], TableOf(t));
                    k.CombineExpertsBackward(t[4], t[5], TableOf(t), t[6], precision, t[7], t[8]);
                },
                tensors);
        }
    }

    [Theory]
    [MemberData(nameof(Layers))]
    public void The_gradient_of_a_gate_weight_is_the_dot_of_rows(
        int tokens, int experts, int topK, int groupSize, int channels, int width)
    {
        _ = (groupSize, width);
        int slots = tokens * topK;
        Tensor[] result = RunOnDevice(
            (k, t) =>
            {
                DispatchTable table = TableOf(t);
                k.PlanDispatch(t[0], table);
                k.CombineExpertsBackward(t[4], t[5], table, t[6], DType.Float32, t[7], t[8]);
                k.DotRows(t[5], table.Assignments.Reshape(new(slots)), t[4], t[10], t[9]);
            },
            [
                .. TableTensors(Choice(tokens, experts, topK, 0), experts), Data.Normal(tokens, channels),
                Data.Normal(slots, channels), Data.Normal(tokens, topK), Data.Garbage(slots, channels),
                Data.Garbage(tokens, topK), Data.GarbageVector(slots),
                Data.Ints([.. Enumerable.Range(0, slots).Select(slot => slot / topK)]),
            ]);
        TensorAssert.Same(result[9], result[8].Reshape(new(slots)), "the order of a sum is the same under both plans");
    }

    [Theory]
    [MemberData(nameof(Layers))]
    public void Products_of_ranges_have_the_bits_of_the_hosts_lists(
        int tokens, int experts, int topK, int groupSize, int channels, int width)
    {
        _ = groupSize;
        foreach (DType type in (ReadOnlySpan<DType>)[DType.Float32, DType.BFloat16])
        {
            foreach (int skipped in (ReadOnlySpan<int>)[0, experts - topK])
            {
                Data.Reset();
                int[][] choice = Choice(tokens, experts, topK, skipped);
                int slots = tokens * topK;
                Tensor[] tensors =
                [
                    .. TableTensors(choice, experts), Data.Normal(type, tokens, channels),
                    Data.Normal(type, experts * width, channels), Data.Garbage(slots, width), Data.Garbage(slots, width),
                    Data.Normal(type, slots, width), Data.Normal(slots, channels), default,
                    Data.Normal(experts * width, channels), default,
                ];
                (tensors[10], tensors[12]) = (Copy(tensors[9]), Copy(tensors[11]));
                string context = $"T={tokens} E={experts} K={topK} {channels}x{width} {type} skipped={skipped}";
                Tensor[] result = Compared(
                    context, ProductToleranceOf(type), (k, t) => MultiplyBoth(k, t, choice, experts, width), tensors);
                TensorAssert.Same(result[6], result[7], context + " forward");
                TensorAssert.Same(result[9], result[10], context + " backward input");
                TensorAssert.Same(result[11], result[12], context + " backward weight");
            }
        }
    }

    [Theory]
    [MemberData(nameof(Layers))]
    public void Quantised_experts_have_the_bits_of_the_hosts_lists(
        int tokens, int experts, int topK, int groupSize, int channels, int width)
    {
        _ = (groupSize, width);
        foreach (TileFormat format in (ReadOnlySpan<TileFormat>)
            [_rowTiles, _microTiles, _rowTiles with { SmallestMax = 1e-4f, PowerOfTwo = true }])
        {
            foreach (bool gathers in (ReadOnlySpan<bool>)[false, true])
            {
                Data.Reset();
                int[][] choice = Choice(tokens, experts, topK, 0);
                int slots = tokens * topK, turned = TurnedColumns(slots, experts);
                Tensor[] tensors =
                [
                    .. TableTensors(choice, experts), Data.Normal(gathers ? tokens : slots, channels, gap: 4),
                    Codes(slots, channels, format), Scales(slots, channels, format), Codes(channels, turned, format),
                    Scales(channels, turned, format),
                ];
                string context = $"T={tokens} E={experts} K={topK} D={channels} {format} gathers={gathers}";
                Tensor[] result = Compared(
                    context, 0,
                    (k, t) =>
                    {
                        k.PlanDispatch(t[0], TableOf(t));
                        k.QuantizeExperts(t[4], TableOf(t), gathers, new(t[5], t[6], format), new(t[7], t[8], format));
                    },
                    tensors);
                AssertTurnedAlone(result, choice, experts, gathers, format, context);
            }
        }
    }

    [Theory]
    [MemberData(nameof(Layers))]
    public void Scaled_products_of_ranges_have_the_bits_of_the_hosts_lists(
        int tokens, int experts, int topK, int groupSize, int channels, int width)
    {
        _ = groupSize;
        foreach ((TileFormat rows, TileFormat weights) in (ReadOnlySpan<(TileFormat, TileFormat)>)
            [(_rowTiles, _blockTiles), (_microTiles, _microTiles)])
        {
            foreach (int skipped in (ReadOnlySpan<int>)[0, experts - topK])
            {
                Data.Reset();
                int[][] choice = Choice(tokens, experts, topK, skipped);
                int slots = tokens * topK;
                QuantizedTensor input = Quantized(tokens, channels, rows), outputs = Quantized(slots, width, rows);
                QuantizedTensor[] forward = [.. choice[0].Length == 0 ? [] : Enumerable.Range(0, experts)
                    .Select(_ => Quantized(width, channels, weights))];
                QuantizedTensor[] backward = [.. forward.Select(_ => Quantized(channels, width, weights))];
                Tensor[] tensors =
                [
                    .. TableTensors(choice, experts), input.Codes, input.Scales, outputs.Codes, outputs.Scales,
                    Data.Garbage(slots, width), Data.Garbage(slots, width), Data.Normal(slots, channels), default,
                    .. forward.Select(w => w.Codes), .. forward.Select(w => w.Scales), .. backward.Select(w => w.Codes),
                    .. backward.Select(w => w.Scales),
                ];
                tensors[11] = Copy(tensors[10]);
                string context = $"T={tokens} E={experts} K={topK} {channels}x{width} {rows} skipped={skipped}";
                int[] loads = LoadsOf(choice, experts);
                CompareScaledProducts(
                    context, (k, t) => MultiplyScaledBoth(k, t, loads, rows, weights), tensors);
                Tensor[] result = RunOnDevice((k, t) => MultiplyScaledBoth(k, t, loads, rows, weights), tensors);
                TensorAssert.Same(result[8], result[9], context + " forward");
                TensorAssert.Same(result[10], result[11], context + " backward input");
            }
        }
    }

    [Theory]
    [MemberData(nameof(Layers))]
    public void Scaled_weight_gradients_of_ranges_have_the_bits_of_the_hosts_lists(
        int tokens, int experts, int topK, int groupSize, int channels, int width)
    {
        _ = groupSize;
        foreach (TileFormat format in (ReadOnlySpan<TileFormat>)[_rowTiles, _microTiles])
        {
            foreach (int skipped in (ReadOnlySpan<int>)[0, experts - topK])
            {
                Data.Reset();
                int[][] choice = Choice(tokens, experts, topK, skipped);
                int slots = tokens * topK, turned = TurnedColumns(slots, experts);
                int[] loads = LoadsOf(choice, experts);
                Tensor[] tensors =
                [
                    .. TableTensors(choice, experts), Data.Normal(slots, width), Data.Normal(tokens, channels),
                    Codes(width, turned, format), Scales(width, turned, format), Codes(channels, turned, format),
                    Scales(channels, turned, format), Data.Normal(experts * width, channels), default,
                    .. loads.Select(load => Codes(width, load, format)), .. loads.Select(load => Scales(width, load, format)),
                    .. loads.Select(load => Codes(channels, load, format)),
                    .. loads.Select(load => Scales(channels, load, format)),
                ];
                tensors[11] = Copy(tensors[10]);
                string context = $"T={tokens} E={experts} K={topK} {channels}x{width} {format} skipped={skipped}";
                CompareScaledProducts(
                    context, (k, t) => MultiplyTurnedBoth(k, t, loads, format), tensors);
                Tensor[] result = RunOnDevice((k, t) => MultiplyTurnedBoth(k, t, loads, format), tensors);
                TensorAssert.Same(result[10], result[11], context);
            }
        }
    }

    [Fact]
    public void A_table_of_another_size_is_rejected()
    {
        Tensor[] tensors = TableTensors(Choice(4, 6, 2, 0), 6);
        AssertRejected("rows", (k, t) => k.PlanDispatch(t[0].SliceRows(0, 3), TableOf(t)), tensors);
        AssertRejected(
            "source", (k, t) => k.CombineExperts(t[4], TableOf(t), t[0], default, 2, DType.Float32, t[5]),
            [.. tensors, Data.Normal(7, 8), Data.Normal(4, 8)]);
        AssertRejected(
            "groups", (k, t) => k.CombineExperts(t[4], TableOf(t), t[0], default, 0, DType.Float32, t[5]),
            [.. tensors, Data.Normal(8, 8), Data.Normal(4, 8)]);
    }
}
