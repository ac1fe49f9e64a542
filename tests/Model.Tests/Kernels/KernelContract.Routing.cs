using Krewe.Model.Kernels;
using Krewe.Model.Tensors;
using Xunit;

namespace Krewe.Model.Tests.Kernels;

/// <content>The gate.</content>
public abstract unsafe partial class KernelContract
{
    private static readonly RoutingShape[] _routings =
    [
        new(1, 1, 1, 1, false, false, true, 1),
        new(8, 2, 1, 1, false, false, true, 2.5f),
        new(8, 8, 1, 1, false, false, true, 1),
        new(13, 3, 1, 1, true, false, false, 1),
        new(16, 4, 4, 2, false, true, true, 2.5f),
        new(16, 4, 8, 2, false, true, false, 1),
        new(64, 6, 8, 3, true, false, false, 16),
        new(64, 6, 8, 3, true, false, true, 1),
        new(160, 6, 8, 3, true, false, false, 16),
        new(256, 8, 8, 4, false, true, true, 2.5f),
        new(37, 5, 1, 1, false, false, true, 2.5f),
    ];

    private Tensor[] RouteTensors(RoutingShape routing, int tokens, Tensor bias, float scale = 1) =>
    [
        Data.Normal(tokens, routing.Experts, scale, gap: 3), bias, Data.Garbage(tokens, routing.Experts),
        Data.Garbage(tokens, routing.TopK, DType.Int32, gap: 1), Data.Garbage(tokens, routing.TopK, gap: 2),
    ];

    [Fact]
    public void Routing_agrees_in_all_variants()
    {
        foreach (RoutingShape routing in _routings)
        {
            foreach (float bias in (ReadOnlySpan<float>)[float.NaN, 0, -5, 5])
            {
                foreach (float scale in (ReadOnlySpan<float>)[1, 8])
                {
                    Data.Reset();
                    Tensor biases = default;
                    if (!float.IsNaN(bias))
                    {
                        biases = Data.NormalVector(routing.Experts, 0.1f);
                        for (int e = 0; e < routing.Experts; e++)
                        {
                            biases.Floats[e] += bias;
                        }
                    }

                    Compare(
                        $"{routing} bias {bias} scale {scale}", Tolerance,
                        (k, t) => k.Route(t[0], t[1], t[2], t[3], t[4], routing),
                        RouteTensors(routing, 19, biases, scale));
                }
            }
        }
    }

    [Fact]
    public void Ties_go_to_the_lowest_index_and_come_in_rising_order()
    {
        foreach (RoutingShape routing in _routings)
        {
            Data.Reset();
            Tensor[] t = RouteTensors(routing, 5, default, 0);
            Compare($"{routing}", Tolerance, (k, x) => k.Route(x[0], x[1], x[2], x[3], x[4], routing), t);
            Tensor chosen = RunOnDevice((k, x) => k.Route(x[0], x[1], x[2], x[3], x[4], routing), t)[3];
            for (int token = 0; token < 5; token++)
            {
                for (int e = 0; e < routing.TopK; e++)
                {
                    Assert.Equal(e, chosen.Ints[(token * chosen.RowStride) + e]);
                }
            }
        }

        // Two pairs of equals among others: 3 and 6 share the top, 1 and 4 tie for the last place.
        RoutingShape three = new(8, 3, 1, 1, false, false, true, 1);
        Assert.Equal([1, 3, 6], Chosen(three, default, -2, 1, 0, 2, 1, -1, 2, 0));
    }

    [Fact]
    public void The_bias_chooses_but_does_not_weigh()
    {
        RoutingShape routing = new(4, 2, 1, 1, false, false, true, 2.5f);
        Tensor[] result = RunOnDevice(
            (k, t) => k.Route(t[0], t[1], t[2], t[3], t[4], routing),
            [
                Data.Vector(3, 0, 1, 2).Reshape(new(1, 4)), Data.Vector(-9, 7, 0, 0), Data.Garbage(1, 4),
                Data.Garbage(1, 2, DType.Int32), Data.Garbage(1, 2),
            ]);
        Assert.Equal([1, 3], result[3].AsSpan<int>().ToArray());
        double one = 0.5;
        double three = 1 / (1 + Math.Exp(-2));
        Assert.Equal(2.5 * one / (one + three), result[4].Floats[0], 1e-5);
        Assert.Equal(2.5 * three / (one + three), result[4].Floats[1], 1e-5);
    }

    [Fact]
    public void Experts_outside_the_kept_groups_lose_even_to_negative_scores()
    {
        RoutingShape routing = new(6, 2, 3, 1, false, true, true, 1);
        Tensor bias = Data.Vector(-8, -8, -6, -6, -5, -9);

        // Groups by their two largest: -16, -12, -14, each plus two scores below 1; group 1 is kept.
        Assert.Equal([2, 3], Chosen(routing, bias, 0, 0, 0, 0, 0, 0));

        // By the largest alone group 2 would win, and then both its experts are taken.
        Assert.Equal([4, 5], Chosen(routing with { GroupByTopTwo = false }, bias, 0, 0, 0, 0, 0, 0));
    }

    [Fact]
    public void Softmax_is_stable_for_large_logits()
    {
        RoutingShape routing = new(3, 1, 1, 1, true, false, false, 1);
        Tensor[] result = RunOnDevice(
            (k, t) => k.Route(t[0], t[1], t[2], t[3], t[4], routing),
            [
                Data.Vector(1000, 1000, -1000).Reshape(new(1, 3)), default, Data.Garbage(1, 3),
                Data.Garbage(1, 1, DType.Int32), Data.Garbage(1, 1),
            ]);
        Assert.Equal([0.5f, 0.5f, 0], result[2].AsSpan<float>().ToArray());
        Assert.Equal(0, result[3].Ints[0]);
    }

    private int[] Chosen(RoutingShape routing, Tensor bias, params ReadOnlySpan<float> logits)
        => RunOnDevice(
            (k, t) => k.Route(t[0], t[1], t[2], t[3], t[4], routing),
            [
                Data.Vector(logits).Reshape(new(1, logits.Length)), bias, Data.Garbage(1, logits.Length),
                Data.Garbage(1, routing.TopK, DType.Int32), Data.Garbage(1, routing.TopK),
            ])[3].AsSpan<int>().ToArray();

    [Fact]
    public void Routing_backward_agrees_with_and_without_the_balance_loss()
    {
        foreach (RoutingShape routing in _routings)
        {
            Data.Reset();
            const int Tokens = 11;
            Tensor[] t = RouteTensors(routing, Tokens, default);
            _reference.Route(t[0], t[1], t[2], t[3], t[4], routing);
            Tensor gradWeights = Data.Normal(Tokens, routing.TopK, gap: 1);
            Tensor gradLogits = Data.Garbage(Tokens, routing.Experts, gap: 4);
            (Tensor Balance, Tensor Sequence)[] balances =
            [
                (default, default),
                (Data.Normal(1, routing.Experts), default),
                (Data.Normal(3, routing.Experts, gap: 2), Data.RandomInts(Tokens, 0, 3)),
            ];
            foreach ((Tensor balance, Tensor sequence) in balances)
            {
                Compare(
                    $"{routing} balance {balance}", Tolerance,
                    (k, x) => k.RouteBackward(x[0], x[1], x[2], x[3], x[4], x[5], routing),
                    gradWeights, t[2], t[3], balance, sequence, gradLogits);
            }
        }
    }

    [Fact]
    public void Balance_statistics_agree_and_add_up()
    {
        int[] starts = [0, 1, 8, 8, 19];
        foreach (RoutingShape routing in _routings)
        {
            Data.Reset();
            Tensor[] t = RouteTensors(routing, 19, default);
            _reference.Route(t[0], t[1], t[2], t[3], t[4], routing);
            Tensor[] all = [t[2], t[3], Data.Garbage(4, routing.Experts), Data.Garbage(4, routing.Experts, gap: 1)];
            void Call(IKernels k, Tensor[] x) => k.BalanceStatistics(x[0], x[1], starts, x[2], x[3]);
            Compare($"{routing}", Tolerance, Call, all);
            Tensor[] result = RunOnDevice(Call, all);
            for (int s = 0; s < 4; s++)
            {
                // Empty sequences report zeros; else frequencies add up to E and mean scores to 1.
                Assert.Equal(s == 2 ? 0 : routing.Experts, Sum(result[2].Row(s)), routing.Experts * 1e-5);
                Assert.Equal(s == 2 ? 0 : 1, Sum(result[3].Row(s)), 1e-5);
            }
        }
    }

    private static double Sum(ReadOnlySpan<float> values)
    {
        double sum = 0;
        foreach (float value in values)
        {
            sum += value;
        }

        return sum;
    }
}
