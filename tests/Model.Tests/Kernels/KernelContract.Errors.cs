using Krewe.Model.Kernels;
using Krewe.Model.Tensors;
using Xunit;

namespace Krewe.Model.Tests.Kernels;

/// <content>A bad call names expected and actual and writes nothing.</content>
public abstract unsafe partial class KernelContract
{
    [Fact]
    public void Products_reject_wrong_shapes()
    {
        Tensor[] t =
        [
            Data.Normal(3, 4), Data.Normal(5, 4), Data.Garbage(3, 5), Data.Normal(3, 6), Data.Ints(0, 1, 3),
            Data.Normal(DType.BFloat16, 3, 4), Data.Normal(DType.BFloat16, 5, 4), Data.Normal(DType.BFloat16, 3, 5),
        ];
        AssertRejected("a rounded weight alone", (k, x) => k.Linear(x[0], x[6], x[2]), t);
        AssertRejected("a rounded input alone", (k, x) => k.Linear(x[5], x[1], x[2]), t);
        AssertRejected("a rounded output", (k, x) => k.Linear(x[5], x[6], x[7]), t);
        AssertRejected("a rounded gradient alone", (k, x) => k.LinearBackwardInput(x[7], x[1], x[0]), t);
        AssertRejected("a rounded weight gradient", (k, x) => k.LinearBackwardWeight(x[7], x[5], x[6]), t);
        AssertRejected("a grouped rounded weight alone", (k, x) => k.GroupedLinear([new(x[0], x[6], x[2])]), t);
        AssertRejected(
            "a grouped rounded gradient alone", (k, x) => k.GroupedLinearBackwardWeight([new(x[0], x[1], x[7])]), t);
        AssertRejected("inner dimension", (k, x) => k.Linear(x[3], x[1], x[2]), t);
        AssertRejected("output columns", (k, x) => k.Linear(x[0], x[1], x[3]), t);
        AssertRejected("output rows", (k, x) => k.Linear(x[0], x[1], x[2].SliceRows(0, 2)), t);
        AssertRejected("grad input", (k, x) => k.LinearBackwardInput(x[2], x[1], x[3]), t);
        AssertRejected("grad weight", (k, x) => k.LinearBackwardWeight(x[2], x[3], x[1]), t);
        AssertRejected("element type", (k, x) => k.Linear(x[0], x[1].Retyped(), x[2]), t);
        AssertRejected(
            "a good product before a bad one",
            (k, x) => k.GroupedLinear([new(x[0], x[1], x[2]), new(x[3], x[1], x[2])]), t);
        AssertRejected("gathered row", (k, x) => k.GroupedLinear([new(x[0], x[1], x[2], x[4])]), t);
        AssertRejected(
            "number of gathered rows",
            (k, x) => k.GroupedLinear([new(x[0], x[1], x[2].SliceRows(0, 2), x[4])]), t);
        AssertRejected("grouped input", (k, x) => k.GroupedLinearBackwardInput([new(x[2], x[1], x[3])]), t);
        AssertRejected("grouped weight", (k, x) => k.GroupedLinearBackwardWeight([new(x[3], x[1], x[2])]), t);
    }

    [Fact]
    public void Row_by_row_kernels_reject_wrong_shapes()
    {
        Tensor[] t =
        [
            Data.Normal(3, 8), Data.NormalVector(7), Data.Garbage(3, 8), Data.GarbageVector(3), Data.Garbage(2, 8),
            Data.NormalVector(8), Data.Normal(9, 4), Data.Ints(0, 1, 9), Data.Garbage(3, 8, DType.BFloat16),
        ];
        AssertRejected("norm weight", (k, x) => k.RmsNorm(x[0], x[1], x[2], x[3], 1e-6f), t);
        AssertRejected("norm output", (k, x) => k.RmsNorm(x[0], x[5], x[4], x[3], 1e-6f), t);
        AssertRejected("norm grad input", (k, x) => k.RmsNormBackwardInput(x[0], x[0], x[5], x[3], x[4]), t);
        AssertRejected("norm grad weight", (k, x) => k.RmsNormBackwardWeight(x[0], x[0], x[3], x[1]), t);
        AssertRejected("swiglu up", (k, x) => k.SwiGlu(x[0], x[4], x[2]), t);
        AssertRejected("swiglu backward", (k, x) => k.SwiGluBackward(x[0], x[0], x[0], x[2], x[4]), t);
        AssertRejected("rotary heads", (k, x) => k.RotaryEmbedding(x[0], 3, 0, x[6], x[7]), t);
        AssertRejected("rotary offset", (k, x) => k.RotaryEmbedding(x[0], 2, 1, x[6], x[7]), t);
        AssertRejected("rotary positions", (k, x) => k.RotaryEmbedding(x[4], 2, 0, x[6], x[7]), t);
        AssertRejected("add", (k, x) => k.Add(x[4], x[2]), t);
        AssertRejected("copy", (k, x) => k.Copy(x[0], x[4]), t);
        AssertRejected("copy to another type", (k, x) => k.Copy(x[0], x[8]), t);
        AssertRejected("fill of another type", (k, x) => k.Fill(x[7], 1), t);
        AssertRejected("moment shape", (k, x) => k.AdamW([new(x[0], x[0], x[2], x[4])], new(1, 0, 0, 1, 0, 1, 1)), t);
        AssertRejected(
            "moment type",
            (k, x) => k.AdamW([new(x[5].SliceColumns(0, 3), x[3], x[7], x[3])], new(1, 0, 0, 1, 0, 1, 1)), t);
        AssertRejected("step 0", (k, x) => k.AdamW([new(x[0], x[0], x[2], x[2])], new(1, 0, 0, 1, 0, 0, 1)), t);
    }

    [Fact]
    public void Attention_rejects_wrong_shapes()
    {
        AttentionShape shape = Shape([2, 6, 4, 5], [0, 3]);
        Tensor[] t = [.. AttentionTensors(shape), Data.Garbage(4, 10)];
        void Rejected(string context, AttentionShape wrong)
            => AssertRejected(context, (k, x) => k.Attention(x[0], x[1], x[2], x[3], x[4], wrong), t);

        Rejected("heads", shape with { Heads = 3 });
        Rejected("no heads", shape with { Heads = 0 });
        Rejected("value", shape with { ValueDim = 6 });
        Rejected("starts end early", shape with { SequenceStarts = [0, 2] });
        Rejected("starts begin late", shape with { SequenceStarts = [1, 3] });
        Rejected("no starts", shape with { SequenceStarts = [] });
        AssertRejected("output", (k, x) => k.Attention(x[0], x[1], x[2], x[5], x[4], shape), t);
        AssertRejected(
            "backward",
            (k, x) => k.AttentionBackward(x[3], x[0], x[1], x[2], x[3], x[4], x[0], x[1], x[3], shape), t);
    }

    [Fact]
    public void Routing_rejects_wrong_shapes()
    {
        RoutingShape routing = new(8, 2, 4, 2, false, true, true, 1);
        Tensor[] t =
        [
            .. RouteTensors(routing, 3, Data.NormalVector(8)),
            Data.NormalVector(7), Data.Garbage(2, 8), Data.Normal(3, 2),
        ];
        void Rejected(string context, RoutingShape wrong)
            => AssertRejected(context, (k, x) => k.Route(x[0], x[1], x[2], x[3], x[4], wrong), t);

        Rejected("experts", routing with { Experts = 16 });
        Rejected("unequal groups", routing with { Groups = 3 });
        Rejected("top-k beyond the kept groups", routing with { TopK = 5 });
        Rejected("top-k of another size", routing with { TopK = 3 });
        Rejected("kept groups", routing with { KeptGroups = 5 });
        Rejected("top two of single experts", routing with { Groups = 8, KeptGroups = 8 });
        AssertRejected("bias", (k, x) => k.Route(x[0], x[5], x[2], x[3], x[4], routing), t);
        AssertRejected("scores", (k, x) => k.Route(x[0], x[1], x[6], x[3], x[4], routing), t);
        AssertRejected(
            "indices out of range", (k, x) => k.RouteBackward(x[7], x[0], x[3], default, default, x[2], routing), t);
        AssertRejected("statistics", (k, x) => k.BalanceStatistics(x[0], x[3], [0, 3], x[6], x[6]), t);
        _reference.Route(t[0], t[1], t[2], t[3], t[4], routing);
        AssertRejected(
            "two sequences, no map", (k, x) => k.RouteBackward(x[7], x[2], x[3], x[6], default, x[0], routing), t);
        AssertRejected("statistics of fewer tokens", (k, x) => k.BalanceStatistics(x[2], x[3], [0, 2], x[6], x[6]), t);
    }

    [Fact]
    public void Token_kernels_reject_wrong_shapes()
    {
        Tensor[] t =
        [
            Data.Normal(3, 8), Data.Ints(0, 1, 3), Data.NormalVector(2), Data.Garbage(3, 8), Data.Ints(0, 2, 1, 3),
            Data.GarbageVector(3), Data.Ints(0, 1, 2), Data.Normal(4, 7), Data.Ints(0, 1, 8), Data.Ints(0, 1, 2, 4),
        ];
        AssertRejected("sum: row", (k, x) => k.SumRows(x[0], x[1], default, x[9], x[3]), t);
        AssertRejected("sum: scale", (k, x) => k.SumRows(x[0], x[6], x[2], x[9], x[3]), t);
        AssertRejected("sum: starts past the end", (k, x) => k.SumRows(x[0], x[6], default, x[9], x[3]), t);
        AssertRejected("sum: starts", (k, x) => k.SumRows(x[0], x[6], default, x[6], x[3]), t);
        AssertRejected("gather: row", (k, x) => k.GatherRows(x[0], x[1], default, x[3]), t);
        AssertRejected("gather: columns", (k, x) => k.GatherRows(x[7], x[6], default, x[3]), t);
        AssertRejected("dot: columns", (k, x) => k.DotRows(x[0], x[6], x[7], x[6], x[5]), t);
        AssertRejected("dot: row", (k, x) => k.DotRows(x[0], x[1], x[0], x[6], x[5]), t);
        AssertRejected("embedding: id", (k, x) => k.EmbeddingBackward(x[0], x[1], x[3]), t);
        AssertRejected("embedding: columns", (k, x) => k.EmbeddingBackward(x[0], x[6], x[7]), t);
        AssertRejected("loss: target", (k, x) => k.CrossEntropy(x[0], x[8], x[5], 1), t);
        AssertRejected("loss: losses", (k, x) => k.CrossEntropy(x[0], x[6], x[2], 1), t);
    }
}

/// <summary>Views for bad calls.</summary>
internal static class WrongTensors
{
    /// <summary>The same memory called Int32.</summary>
    internal static Tensor Retyped(this Tensor tensor)
        => new(tensor.Address, tensor.Shape, DType.Int32, tensor.RowStride);
}
