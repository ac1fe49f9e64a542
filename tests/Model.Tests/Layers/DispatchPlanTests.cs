using Krewe.Model.Configuration;
using Krewe.Model.Kernels;
using Krewe.Model.Kernels.Reference;
using Krewe.Model.Layers;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Krewe.Model.Training;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Layers;

/// <summary>The numbers of docs/follow-a-batch.md, and the same bits wherever an expert lives.</summary>
public class DispatchPlanTests
{
    /// <summary>The page's example: 3 tokens, 4 experts in 2 canonical groups, top-2.</summary>
    private static readonly int[] Choice = [0, 1, 1, 2, 2, 3];
    private static readonly float[] Gates = [0.75f, 0.25f, 0.5f, 0.5f, 0.25f, 0.75f];

    /// <summary>The page's expert outputs, one number per (token, expert) pair.</summary>
    private static readonly float[] Outputs = [4, 8, 2, 6, 16, 20];

    [Fact]
    public void Whole_groups_come_back_as_one_row_each()
    {
        DispatchPlan plan = Build(Choice, Gates, topK: 2, new([0, 0, 1, 1], canonicalGroups: 2));

        Assert.Equal([1, 2, 2, 1], plan.Load);
        ExpertSlice first = plan.Slices[0];
        Assert.Equal([0, 1], first.TokenRows);
        Assert.Equal([0, 1], first.Experts);
        Assert.Equal([0, 1, 3], first.Offsets);
        Assert.Equal([0, 0, 1], first.Rows);
        Assert.Equal([0.75f, 0.25f, 0.5f], first.Weights);
        Assert.Equal([0, 1, 2], first.Slots);
        Assert.Equal([0, 2, 3], first.ReducedStarts);
        Assert.Equal([0, 1, 2], first.ReducedAssignments);
        Assert.Empty(first.RawAssignments);
        ExpertSlice second = plan.Slices[1];
        Assert.Equal([1, 2], second.TokenRows);
        Assert.Equal([2, 3], second.Experts);
        Assert.Equal([0, 2, 3], second.Offsets);
        Assert.Equal([0, 1, 1], second.Rows);
        Assert.Equal([0.5f, 0.25f, 0.75f], second.Weights);
        Assert.Equal([3, 4, 5], second.Slots);
        Assert.Equal([0, 1, 3], second.ReducedStarts);
        Assert.Equal([0, 1, 2], second.ReducedAssignments);
        Assert.Empty(second.RawAssignments);
        Assert.Equal(4, plan.ReturnedRows);
        Assert.Equal(2, plan.FirstReturnedRow(1));
        Assert.Empty(plan.SplitRows);
        Assert.Equal([0, 1, 3, 4], plan.TokenStarts);
        Assert.Equal([0, 1, 2, 3], plan.TokenGroupRows);
        Assert.Equal([5f, 4f, 19f], Follow(plan, Outputs));
    }

    [Fact]
    public void A_split_group_comes_back_expert_by_expert()
    {
        DispatchPlan plan = Build(Choice, Gates, topK: 2, new([0, 0, 0, 1], canonicalGroups: 2));

        ExpertSlice first = plan.Slices[0];
        Assert.Equal([0, 1, 2], first.TokenRows);
        Assert.Equal([0, 1, 2], first.Experts);
        Assert.Equal([0, 1, 3, 5], first.Offsets);
        Assert.Equal([0, 0, 1, 1, 2], first.Rows);
        Assert.Equal([0.75f, 0.25f, 0.5f, 0.5f, 0.25f], first.Weights);
        Assert.Equal([0, 1, 2, 3, 4], first.Slots);
        Assert.Equal([0, 2, 3], first.ReducedStarts);
        Assert.Equal([0, 1, 2], first.ReducedAssignments);
        Assert.Equal([3, 4], first.RawAssignments);
        ExpertSlice second = plan.Slices[1];
        Assert.Equal([2], second.TokenRows);
        Assert.Equal([3], second.Experts);
        Assert.Equal([0, 1], second.Offsets);
        Assert.Equal([0], second.Rows);
        Assert.Equal([0.75f], second.Weights);
        Assert.Equal([5], second.Slots);
        Assert.Equal([0], second.ReducedStarts);
        Assert.Empty(second.ReducedAssignments);
        Assert.Equal([0], second.RawAssignments);
        Assert.Equal(5, plan.ReturnedRows);
        Assert.Equal(4, plan.FirstReturnedRow(1));
        Assert.Equal([0, 1, 3], plan.SplitStarts);
        Assert.Equal([2, 3, 4], plan.SplitRows);
        Assert.Equal([0.5f, 0.25f, 0.75f], plan.SplitWeights);
        Assert.Equal([0, 1, 3, 4], plan.TokenStarts);
        Assert.Equal([0, 1, 5, 6], plan.TokenGroupRows);
        Assert.Equal([5f, 4f, 19f], Follow(plan, Outputs));
    }

    [Fact]
    public void Any_placement_adds_the_same_bits_in_the_same_order()
    {
        var random = new Random(11);
        for (int round = 0; round < 300; round++)
        {
            int groups = random.Next(1, 6);
            int experts = groups * random.Next(1, 6);
            int topK = random.Next(1, Math.Min(experts, 8) + 1);
            int tokens = random.Next(0, 20);
            int[] choice = [.. Enumerable.Range(0, tokens).SelectMany(_ => Distinct(random, experts, topK))];
            float[] gates = Floats(random, choice.Length);
            float[] outputs = Floats(random, choice.Length);
            DispatchPlan single = Build(choice, gates, topK, new(new int[experts], groups));
            float[] expected = Follow(single, outputs);
            int hosts = random.Next(1, 7);
            int[] placement = [.. Enumerable.Range(0, experts).Select(_ => random.Next(hosts))];
            DispatchPlan plan = Build(choice, gates, topK, new(placement, groups));

            AssertSound(plan, choice, tokens, placement);
            Assert.Equal(single.Load, plan.Load);
            Assert.Equal(Bits(Define(choice, gates, outputs, topK, experts / groups)), Bits(expected));
            Assert.Equal(Bits(expected), Bits(Follow(plan, outputs)));
        }
    }

    /// <summary>Whole recipes, and some that take parts of others.</summary>
    public static TheoryData<string> Recipes =>
    [
        .. PrecisionRecipe.Names,
        "fp8:experts=bf16",
        "fp8:swiglu-cache=bf16",
        "fp8:dispatch=mxfp8,combine=fp32",
        "bf16:experts=fp8",
        "mxfp8:experts=fp8",
    ];

    [Theory]
    [MemberData(nameof(Recipes))]
    public async Task A_layer_gives_the_same_bits_on_any_placement(string precision)
    {
        PrecisionRecipe recipe = PrecisionRecipe.Get(precision);
        ModelConfig config = ModelPresets.Get("tiny") with { HiddenSize = 24, MoeIntermediateSize = 16 };
        float[][] expected = await RunLayerAsync(config, recipe, new int[config.NRoutedExperts]);
        var random = new Random(12);
        for (int round = 0; round < 12; round++)
        {
            int hosts = random.Next(1, 6);
            int[] placement = [.. Enumerable.Range(0, config.NRoutedExperts).Select(_ => random.Next(hosts))];

            float[][] actual = await RunLayerAsync(config, recipe, placement);

            for (int i = 0; i < expected.Length; i++)
            {
                Assert.True(
                    Bits(expected[i]).AsSpan().SequenceEqual(Bits(actual[i])),
                    $"result {i} differs with experts on {string.Join(' ', placement)}");
            }
        }
    }

    [Theory]
    [MemberData(nameof(Recipes))]
    public async Task A_layer_gives_the_same_bits_under_a_plan_of_the_device(string precision)
    {
        PrecisionRecipe recipe = PrecisionRecipe.Get(precision);
        ModelConfig config = ModelPresets.Get("tiny") with { HiddenSize = 24, MoeIntermediateSize = 16 };
        int[] together = new int[config.NRoutedExperts];
        float[][] expected = await RunLayerAsync(config, recipe, together);
        Array.Fill(together, 2);
        float[][] actual = await RunLayerAsync(config, recipe, together, plansOnDevice: true);
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.True(Bits(expected[i]).AsSpan().SequenceEqual(Bits(actual[i])), $"result {i} differs");
        }
    }

    /// <summary>Output, gradient of the input and weight gradients of one MoE layer; the same data each time.</summary>
    private static async Task<float[][]> RunLayerAsync(
        ModelConfig config, PrecisionRecipe recipe, int[] placement, bool plansOnDevice = false)
    {
        const int Tokens = 20;
        using var data = new TestTensors(13);
        using var device = new ReferenceDevice();
        IKernels kernels = device.Kernels;
        Arena arena = device.CreateArena("micro-batch");
        var stage = new ParameterSet(device, "stage");
        var layer = new MoeLayer(config, stage, arena, layer: 1, recipe);
        Expert[] experts = [.. Enumerable.Range(0, config.NRoutedExperts)
            .Select(index => new Expert(config, device, 1, index, recipe))];
        ParameterSet[] sets = [stage, .. experts.Select(expert => expert.Parameters)];
        foreach (ParameterSet set in sets)
        {
            set.PrepareForTraining(kernels, DType.Float32);
            foreach (Parameter parameter in set.All)
            {
                data.Normal(parameter.Shape.Rows, parameter.Shape.Columns, 0.3f).AsSpan<float>()
                    .CopyTo(parameter.Value.AsSpan<float>());
            }
        }

        var topology = new ExpertTopology(placement, ExpertTopology.CanonicalGroups(config));
        LocalExpertHost[] hosts = [.. Enumerable.Range(0, topology.Hosts)
            .Select(host => new LocalExpertHost(
                device, _ => [.. experts.Select(expert => placement[expert.Index] == host ? expert : null)]))];
        var balance = new BalanceLossOptions(1e-3, BalanceLossScope.Sequence, Units: 2);
        var call = new ExpertCall(1, new SlotCall(0, 0), BackwardFollows: true);
        var state = new MoeLayer.State();
        Tensor input = data.Normal(Tokens, config.HiddenSize);
        Tensor output = data.Normal(Tokens, config.HiddenSize);
        TokenLayout layout = TokenLayout.Create(arena, [0, 9, Tokens]);
        layout.Fill(kernels);
        kernels.Fill(layer.Router.Bias, 0);
        DeviceSlice? own = layer.ChoosePlanner(topology, Tokens, plansOnDevice, state);
        layer.Dispatch(kernels, arena, input, layout, topology, balance, state);
        Assert.Equal(plansOnDevice, own is not null);
        layer.ForwardShared(kernels, arena, output, state);
        int[] busy = [.. Enumerable.Range(0, topology.Hosts).Where(host => state.Plan.Slices[host].Assignments > 0)];
        foreach (int host in busy)
        {
            Tensor rows = await hosts[host].ForwardAsync(
                call, state.Plan.Slices[host], own is null ? state.HostRows[host] : default);
            if (own is null)
            {
                state.Returned[host] = rows;
            }
        }

        MoeLayer.Combine(kernels, arena, state);
        float[] outputs = TensorValues.ToFloats(output);
        MoeLayer.DispatchBackward(kernels, arena, data.Normal(Tokens, config.HiddenSize), state);
        layer.BackwardShared(kernels, arena, state);
        foreach (int host in busy)
        {
            ExpertGradients gradients =
                await hosts[host].BackwardAsync(call, own is null ? state.HostRows[host] : default);
            if (own is null)
            {
                state.Returned[host] = gradients.Rows;
                state.ReturnedWeights[host] = gradients.Weights;
            }
        }

        float[] gradInput = TensorValues.ToFloats(layer.CombineBackward(kernels, arena, balance, state));
        var weightGradients = new WeightGradients();
        layer.BackwardWeight(kernels, weightGradients, state);
        weightGradients.Launch(kernels);
        await Task.WhenAll(hosts.Select(host => host.BackwardWeightAsync(call)));
        float[][] results =
        [
            outputs, gradInput,
            .. sets.SelectMany(set => set.All).Select(parameter => TensorValues.ToFloats(parameter.Gradient)),
        ];
        Array.ForEach(hosts, host => host.Dispose());
        return results;
    }

    /// <summary>The tree's definition: experts of a group in index order, then groups in index order.</summary>
    private static float[] Define(int[] choice, float[] gates, float[] outputs, int topK, int groupSize)
    {
        var sums = new float[topK == 0 ? 0 : choice.Length / topK];
        for (int token = 0; token < sums.Length; token++)
        {
            int[] slots = [.. Enumerable.Range(token * topK, topK)];
            float[] groups = [.. slots.GroupBy(slot => choice[slot] / groupSize)
                .Select(group => group.Skip(1).Aggregate(
                    gates[group.First()] * outputs[group.First()],
                    (sum, slot) => MathF.FusedMultiplyAdd(gates[slot], outputs[slot], sum)))];
            sums[token] = groups.Skip(1).Aggregate(groups[0], (sum, group) => sum + group);
        }

        return sums;
    }

    /// <summary>Does what the plan says on rows of one number: hosts reduce, then the stage adds.</summary>
    private static float[] Follow(DispatchPlan plan, float[] outputs)
    {
        var rows = new List<float>();
        foreach (ExpertSlice slice in plan.Slices)
        {
            float[] values = [.. slice.Slots.Select(slot => outputs[slot])];
            float[] weights = [.. slice.ReducedAssignments.Select(a => slice.Weights[a])];
            rows.AddRange(Sums(values, slice.ReducedAssignments, weights, slice.ReducedStarts));
            rows.AddRange(slice.RawAssignments.Select(a => values[a]));
        }

        Assert.Equal(plan.ReturnedRows, rows.Count);
        rows.AddRange(Sums([.. rows], plan.SplitRows, [.. plan.SplitWeights], plan.SplitStarts));
        float[] ones = [.. plan.TokenGroupRows.Select(_ => 1f)];
        return Sums([.. rows], plan.TokenGroupRows, ones, plan.TokenStarts);
    }

    /// <summary><see cref="IKernels.SumRows"/> on rows of one number.</summary>
    private static float[] Sums(float[] source, List<int> rows, float[] scale, List<int> starts)
    {
        var sums = new float[starts.Count - 1];
        for (int r = 0; r < sums.Length; r++)
        {
            for (int i = starts[r]; i < starts[r + 1]; i++)
            {
                sums[r] = i == starts[r]
                    ? scale[i] * source[rows[i]]
                    : MathF.FusedMultiplyAdd(scale[i], source[rows[i]], sums[r]);
            }
        }

        return sums;
    }

    private static void AssertSound(DispatchPlan plan, int[] choice, int tokens, int[] placement)
    {
        Assert.Equal(tokens, plan.TokenStarts.Count - 1);
        Assert.Equal(choice.Length, plan.Load.Sum());
        int[] slots = [.. plan.Slices.SelectMany(slice => slice.Slots).Order()];
        Assert.Equal(Enumerable.Range(0, choice.Length), slots);
        for (int host = 0; host < plan.Slices.Count; host++)
        {
            ExpertSlice slice = plan.Slices[host];
            // Strictly rising: a token travels to a host once, however many of its experts live there.
            Assert.True(slice.TokenRows.Zip(slice.TokenRows.Skip(1)).All(pair => pair.First < pair.Second));
            Assert.All(slice.Slots, slot => Assert.Equal(host, placement[choice[slot]]));
            Assert.Equal(slice.Assignments, slice.ReducedAssignments.Count + slice.RawAssignments.Count);
        }
    }

    private static DispatchPlan Build(int[] choice, float[] gates, int topK, ExpertTopology topology)
    {
        var plan = new DispatchPlan();
        plan.Build(choice, gates, topK, topology);
        return plan;
    }

    private static int[] Distinct(Random random, int experts, int count)
    {
        int[] all = [.. Enumerable.Range(0, experts)];
        random.Shuffle(all);
        return [.. all.Take(count).Order()];
    }

    /// <summary>Values of very different size, so that the order of a sum shows in its bits.</summary>
    private static float[] Floats(Random random, int count) => [.. Enumerable.Range(0, count)
        .Select(_ => (float)((random.NextDouble() - 0.5) * Math.Pow(10, random.Next(-4, 5))))];

    private static int[] Bits(float[] values) => Array.ConvertAll(values, BitConverter.SingleToInt32Bits);
}
