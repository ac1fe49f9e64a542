using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Kernels;

/// <content>Choices of experts, and each product both ways: over ranges of a table, and over lists of the host.</content>
public abstract unsafe partial class KernelContract
{
    private static DispatchTable TableOf(Tensor[] tensors) => new(tensors[1], tensors[2], tensors[3]);

    /// <summary>Indices and an empty table.</summary>
    private Tensor[] TableTensors(int[][] choice, int experts)
    {
        int topK = choice[0].Length;
        Tensor indices = Data.Garbage(choice.Length, topK, DType.Int32, gap: 1);
        for (int token = 0; token < choice.Length; token++)
        {
            choice[token].CopyTo(new Span<int>(indices.Ints + (token * indices.RowStride), topK));
        }

        return
        [
            indices, Data.Garbage(2, experts + 1, DType.Int32), Data.GarbageVector(choice.Length * topK, DType.Int32),
            Data.Garbage(choice.Length, topK, DType.Int32),
        ];
    }

    /// <summary>Distinct experts of each token, rising; the lowest of them less often, the first ones never.</summary>
    private int[][] Choice(int tokens, int experts, int topK, int skipped) =>
    [
        .. Enumerable.Range(0, tokens).Select(_ =>
        {
            int[] all = [.. Enumerable.Range(skipped, experts - skipped)];
            for (int i = 0; i < topK; i++)
            {
                int other = Math.Max(Data.Next(i, all.Length), Data.Next(i, all.Length));
                (all[i], all[other]) = (all[other], all[i]);
            }

            return all.Take(topK).Order().ToArray();
        }),
    ];

    private static int[] LoadsOf(int[][] choice, int experts) =>
        [.. Enumerable.Range(0, experts).Select(expert => choice.Sum(row => row.Count(chosen => chosen == expert)))];

    private static int TurnedColumns(int slots, int experts) =>
        new DispatchTable(new(64, new(2, experts + 1), DType.Int32), new(64, new(slots), DType.Int32), default).TurnedColumns;

    private Tensor Copy(Tensor tensor)
    {
        Tensor copy = Data.Garbage(tensor.Rows, tensor.Columns);
        tensor.AsSpan<float>().CopyTo(copy.AsSpan<float>());
        return copy;
    }

    /// <summary>As <see cref="Compare(string, double, Action{IKernels, Tensor[]}, Tensor[])"/>; gives the backend's
    /// tensors.</summary>
    private Tensor[] Compared(string context, double tolerance, Action<IKernels, Tensor[]> call, Tensor[] tensors)
    {
        Compare(context, tolerance, call, tensors);
        return RunOnDevice(call, tensors);
    }

    private static void MultiplyBoth(IKernels kernels, Tensor[] t, int[][] choice, int experts, int width)
    {
        DispatchTable table = TableOf(t);
        kernels.PlanDispatch(t[0], table);
        int[] loads = LoadsOf(choice, experts);
        var products = new GroupedProduct[experts];
        Each(e => new(t[4], Weight(t[5], e), t[6], table.Rows, Range: table.RangeOf(e)));
        kernels.GroupedLinear(products);
        Each(e => new(t[8], Weight(t[5], e), t[9], Accumulate: e % 2 == 1, Range: table.RangeOf(e)));
        kernels.GroupedLinearBackwardInput(products);
        Each(e => new(t[4], Weight(t[11], e), t[8], table.Rows, Range: table.RangeOf(e)));
        kernels.GroupedLinearBackwardWeight(products);
        Lists((e, first, count) => new(
            t[4], Weight(t[5], e), t[7].SliceRows(first, count), table.Rows.SliceElements(first, count)));
        kernels.GroupedLinear(products);
        Lists((e, first, count) => new(
            t[8].SliceRows(first, count), Weight(t[5], e), t[10].SliceRows(first, count), Accumulate: e % 2 == 1));
        kernels.GroupedLinearBackwardInput(products);
        Lists((e, first, count) => new(
            t[4], Weight(t[12], e), t[8].SliceRows(first, count), table.Rows.SliceElements(first, count)));
        kernels.GroupedLinearBackwardWeight(products);

        Tensor Weight(Tensor all, int expert) => all.SliceRows(expert * width, width);

        void Each(Func<int, GroupedProduct> product)
        {
            for (int e = 0; e < experts; e++)
            {
                products[e] = product(e);
            }
        }

        void Lists(Func<int, int, int, GroupedProduct> product)
        {
            for (int e = 0, first = 0; e < experts; first += loads[e++])
            {
                products[e] = product(e, first, loads[e]);
            }
        }
    }

    private static void MultiplyScaledBoth(
        IKernels kernels, Tensor[] t, int[] loads, TileFormat rows, TileFormat weights)
    {
        DispatchTable table = TableOf(t);
        kernels.PlanDispatch(t[0], table);
        int experts = loads.Length;
        QuantizedTensor input = new(t[4], t[5], rows), outputs = new(t[6], t[7], rows);
        var products = new ScaledProduct[experts];
        for (int e = 0; e < experts; e++)
        {
            products[e] = new(input, WeightOf(0, e), t[8], table.Rows, Range: table.RangeOf(e));
        }

        kernels.GroupedScaledLinear(products);
        for (int e = 0; e < experts; e++)
        {
            products[e] = new(outputs, WeightOf(2, e), t[10], Accumulate: e % 2 == 1, Range: table.RangeOf(e));
        }

        kernels.GroupedScaledLinear(products);
        for (int e = 0, first = 0; e < experts; first += loads[e++])
        {
            products[e] = new(
                input, WeightOf(0, e), t[9].SliceRows(first, loads[e]), table.Rows.SliceElements(first, loads[e]));
        }

        kernels.GroupedScaledLinear(products);
        for (int e = 0, first = 0; e < experts; first += loads[e++])
        {
            products[e] = new(
                outputs.SliceRows(first, loads[e]), WeightOf(2, e), t[11].SliceRows(first, loads[e]),
                Accumulate: e % 2 == 1);
        }

        kernels.GroupedScaledLinear(products);

        QuantizedTensor WeightOf(int list, int expert) =>
            new(t[12 + (list * experts) + expert], t[12 + ((list + 1) * experts) + expert], weights);
    }

    private static void MultiplyTurnedBoth(IKernels kernels, Tensor[] t, int[] loads, TileFormat format)
    {
        DispatchTable table = TableOf(t);
        kernels.PlanDispatch(t[0], table);
        int experts = loads.Length, width = t[10].Rows / experts;
        QuantizedTensor gradients = new(t[6], t[7], format), inputs = new(t[8], t[9], format);
        kernels.QuantizeExperts(t[4], table, false, default, gradients);
        kernels.QuantizeExperts(t[5], table, true, default, inputs);
        var products = new ScaledProduct[experts];
        for (int e = 0; e < experts; e++)
        {
            products[e] = new(
                gradients, inputs, t[10].SliceRows(e * width, width), Accumulate: true, Depth: table.ColumnsOf(e));
        }

        kernels.GroupedScaledLinear(products);
        for (int e = 0, first = 0; e < experts; first += loads[e++])
        {
            QuantizedTensor At(int list) => new(
                t[12 + (list * experts) + e], t[12 + ((list + 1) * experts) + e], format);
            kernels.Quantize(t[4].SliceRows(first, loads[e]), default, default, At(0));
            if (loads[e] > 0)
            {
                kernels.Quantize(t[5], table.Rows.SliceElements(first, loads[e]), default, At(2));
            }

            products[e] = new(At(0), At(2), t[11].SliceRows(e * width, width), Accumulate: true);
        }

        kernels.GroupedScaledLinear(products);
    }

    /// <summary>The turned tiles of every expert are those of its own rows alone; what fills them up is zero.</summary>
    private void AssertTurnedAlone(
        Tensor[] result, int[][] choice, int experts, bool gathers, TileFormat format, string context)
    {
        int[] loads = LoadsOf(choice, experts);
        int[] rows = result[2].AsSpan<int>().ToArray();
        Tensor source = result[4];
        var turned = new QuantizedTensor(result[7], result[8], format);
        for (int e = 0, first = 0, left = 0; e < experts; first += loads[e++])
        {
            if (loads[e] == 0)
            {
                continue;
            }

            Tensor own = Data.Garbage(loads[e], source.Columns);
            for (int i = 0; i < loads[e]; i++)
            {
                source.Row(gathers ? rows[first + i] : first + i).CopyTo(own.Row(i));
            }

            var alone = new QuantizedTensor(
                Codes(source.Columns, loads[e], format), Scales(source.Columns, loads[e], format), format);
            _reference.Quantize(own, default, default, alone);
            int padded = (loads[e] + 127) / 128 * 128;
            for (int d = 0; d < source.Columns; d++)
            {
                var codes = new ReadOnlySpan<byte>((byte*)turned.Codes.Address + (d * turned.Columns) + left, padded);
                var expected = new ReadOnlySpan<byte>((byte*)alone.Codes.Address + (d * loads[e]), loads[e]);
                Assert.True(codes[..loads[e]].SequenceEqual(expected), $"{context}: codes of expert {e}, channel {d}");
                Assert.False(codes[loads[e]..].ContainsAnyExcept((byte)0), $"{context}: filling of expert {e}, channel {d}");
                Assert.True(
                    turned.Scales.Row(d).Slice(left / format.Columns, alone.Scales.Columns)
                        .SequenceEqual(alone.Scales.Row(d)), $"{context}: scales of expert {e}, channel {d}");
            }

            left += padded;
        }
    }
}
