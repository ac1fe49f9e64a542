using Krewe.Model.Kernels;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Kernels;

/// <content>
/// Every backward against central differences of its forward: independent of the oracle. The loss is a random linear
/// functional of the outputs, added up in float64.
/// </content>
public abstract unsafe partial class KernelContract
{
    private const int SampledCoordinates = 48;

    /// <param name="forward">Writes the outputs; must not change the inputs.</param>
    /// <param name="outputs">Pairs of tensor numbers: output and its factor in the loss (its gradient).</param>
    /// <param name="backward">Writes the gradients, after the forward ran on the same tensors.</param>
    /// <param name="gradients">Pairs of tensor numbers: input and its gradient.</param>
    /// <param name="tensors">All tensors.</param>
    private void AssertGradients(
        Action<IKernels, Tensor[]> forward, (int Output, int Factor)[] outputs,
        Action<IKernels, Tensor[]> backward, (int Input, int Gradient)[] gradients, params Tensor[] tensors)
    {
        const float Epsilon = 1e-2f;
        const double Relative = 1e-2;
        double Loss()
        {
            _results.Reset();
            Tensor[] result = RunOnDevice(forward, tensors);
            return outputs.Sum(pair => Inner(result[pair.Output], tensors[pair.Factor]));
        }

        Tensor[] analytic = RunOnDevice(
            (k, t) =>
            {
                forward(k, t);
                backward(k, t);
            },
            tensors);
        double[][] values = Array.ConvertAll(gradients, pair => Values(analytic[pair.Gradient]));
        for (int g = 0; g < gradients.Length; g++)
        {
            Tensor input = tensors[gradients[g].Input];
            double scale = Math.Sqrt(values[g].Sum(value => value * value) / values[g].Length);
            Assert.True(scale > 0, $"gradient of tensor {gradients[g].Input} is zero: the test proves nothing");
            for (int sample = 0; sample < Math.Min(SampledCoordinates, values[g].Length); sample++)
            {
                int i = values[g].Length <= SampledCoordinates ? sample : Data.Next(0, values[g].Length);
                ref float x = ref input.Row(i / input.Columns)[i % input.Columns];
                float old = x;
                float above = old + Epsilon;
                float below = old - Epsilon;
                x = above;
                double lossAbove = Loss();
                x = below;
                double lossBelow = Loss();
                x = old;
                double numeric = (lossAbove - lossBelow) / ((double)above - below);
                double actual = values[g][i];
                Assert.True(
                    Math.Abs(numeric - actual) <= Relative * (Math.Abs(numeric) + (0.2 * scale)),
                    $"gradient of tensor {gradients[g].Input} at [{i / input.Columns}, {i % input.Columns}]: "
                    + $"differences give {numeric:g6}, the backward {actual:g6}");
            }
        }
    }

    private static double Inner(Tensor a, Tensor b)
    {
        double[] left = Values(a);
        double[] right = Values(b);
        return left.Zip(right, (x, y) => x * y).Sum();
    }

    private static double[] Values(Tensor tensor)
    {
        double[] values = new double[tensor.Count];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = TensorAssert.Read(tensor, i / tensor.Columns, i % tensor.Columns);
        }

        return values;
    }

    [Fact]
    public void Gradients_of_linear() => AssertGradients(
        (k, t) => k.Linear(t[0], t[1], t[2]), [(2, 3)],
        (k, t) =>
        {
            k.LinearBackwardInput(t[3], t[1], t[4]);
            k.LinearBackwardWeight(t[3], t[0], t[5]);
        },
        [(0, 4), (1, 5)],
        Data.Normal(5, 9), Data.Normal(7, 9), Data.Garbage(5, 7), Data.Normal(5, 7), Data.Garbage(5, 9),
        Data.Filled(7, 9, 0));

    [Fact]
    public void Gradients_of_gathered_products()
    {
        // Token rows 2, 0, 2, 1 go to two experts; the gradient returns to the rows through SumRows.
        AssertGradients(
            (k, t) => k.GroupedLinear(Products(t[0], t[1], t[2], t[6])), [(2, 3)],
            (k, t) =>
            {
                k.GroupedLinearBackwardInput(
                [
                    new(t[3].SliceRows(0, 3), t[1].SliceRows(0, 7), t[4].SliceRows(0, 3)),
                    new(t[3].SliceRows(3, 1), t[1].SliceRows(7, 7), t[4].SliceRows(3, 1)),
                ]);
                k.SumRows(t[4], t[7], default, t[8], t[9]);
                k.GroupedLinearBackwardWeight(Products(t[0], t[5], t[3], t[6]));
            },
            [(0, 9), (1, 5)],
            Data.Normal(3, 6), Data.Normal(14, 6), Data.Garbage(4, 7), Data.Normal(4, 7), Data.Garbage(4, 6),
            Data.Filled(14, 6, 0), Data.Ints(2, 0, 2, 1), Data.Ints(1, 3, 0, 2), Data.Ints(0, 1, 2, 4),
            Data.Garbage(3, 6));

        static GroupedProduct[] Products(Tensor input, Tensor weight, Tensor output, Tensor rows) =>
        [
            new(input, weight.SliceRows(0, 7), output.SliceRows(0, 3), new(rows.Address, new(3), DType.Int32)),
            new(input, weight.SliceRows(7, 7), output.SliceRows(3, 1), new(rows.Address + 12, new(1), DType.Int32)),
        ];
    }

    [Fact]
    public void Gradients_of_rms_norm() => AssertGradients(
        (k, t) => k.RmsNorm(t[0], t[1], t[2], t[3], 1e-6f), [(2, 4)],
        (k, t) =>
        {
            k.RmsNormBackwardInput(t[4], t[0], t[1], t[3], t[5]);
            k.RmsNormBackwardWeight(t[4], t[0], t[3], t[6]);
        },
        [(0, 5), (1, 6)],
        Data.Normal(4, 11), Data.NormalVector(11), Data.Garbage(4, 11), Data.GarbageVector(4), Data.Normal(4, 11),
        Data.Garbage(4, 11), Data.Vector(new float[11]));

    [Fact]
    public void Gradients_of_swiglu() => AssertGradients(
        (k, t) => k.SwiGlu(t[0], t[1], t[2]), [(2, 3)],
        (k, t) => k.SwiGluBackward(t[3], t[0], t[1], t[4], t[5]), [(0, 4), (1, 5)],
        Data.Normal(4, 10, 2), Data.Normal(4, 10), Data.Garbage(4, 10), Data.Normal(4, 10), Data.Garbage(4, 10),
        Data.Garbage(4, 10));

    [Fact]
    public void Gradients_of_rotary_embedding() => AssertGradients(
        (k, t) =>
        {
            k.Copy(t[0], t[1]);
            k.RotaryEmbedding(t[1], 2, 3, t[4], t[5]);
        },
        [(1, 2)],
        (k, t) =>
        {
            k.Copy(t[2], t[3]);
            k.RotaryEmbedding(t[3], 2, 3, t[4], t[5], inverse: true);
        },
        [(0, 3)],
        Data.Normal(3, 14), Data.Garbage(3, 14), Data.Normal(3, 14), Data.Garbage(3, 14), Angles(9, 4),
        Data.Ints(8, 0, 5));

    [Fact]
    public void Gradients_of_attention()
    {
        AttentionShape shape = Shape([2, 6, 4, 5], [0, 1, 5, 10]);
        AssertGradients(
            (k, t) => k.Attention(t[0], t[1], t[2], t[3], t[4], shape), [(3, 5)],
            (k, t) => k.AttentionBackward(t[5], t[0], t[1], t[2], t[3], t[4], t[6], t[7], t[8], shape),
            [(0, 6), (1, 7), (2, 8)],
            [
                .. AttentionTensors(shape), Data.Normal(10, 10), Data.Garbage(10, 20), Data.Garbage(10, 22),
                Data.Garbage(10, 4),
            ]);
    }

    /// <summary>Variants of the gate: softmax, normalised, groups; each with and without the balance loss.</summary>
    [Theory]
    [InlineData(false, true, 1, true)]
    [InlineData(false, true, 1, false)]
    [InlineData(false, false, 1, true)]
    [InlineData(false, true, 4, true)]
    [InlineData(true, true, 1, true)]
    [InlineData(true, false, 1, true)]
    [InlineData(true, false, 4, false)]
    public void Gradients_of_the_gate(bool softmax, bool normalize, int groups, bool balance)
    {
        RoutingShape routing = new(12, 3, groups, groups == 1 ? 1 : 2, softmax, false, normalize, 2.5f);
        int[] starts = [0, 2, 5, 9];
        const int Tokens = 9;

        // Biases far apart fix the choice, so that a small step never changes it.
        Tensor bias = Data.GarbageVector(12);
        for (int e = 0; e < 12; e++)
        {
            bias.Floats[e] = 3 * (e * 5 % 12);
        }

        // Factors of the mean scores; each token's share in the mean of its sequence is 1 / T_s.
        Tensor factor = balance ? Data.Normal(3, 12) : Data.Filled(3, 12, 0);
        Tensor balanceGradient = Data.Garbage(3, 12);
        int[] sequenceOfToken = new int[Tokens];
        for (int s = 0; s < 3; s++)
        {
            sequenceOfToken.AsSpan(starts[s]..starts[s + 1]).Fill(s);
            for (int e = 0; e < 12; e++)
            {
                balanceGradient.Row(s)[e] = factor.Row(s)[e] / (starts[s + 1] - starts[s]);
            }
        }

        AssertGradients(
            (k, t) =>
            {
                k.Route(t[0], t[1], t[2], t[3], t[4], routing);
                k.BalanceStatistics(t[2], t[3], starts, t[8], t[9]);
            },
            [(4, 5), (9, 6)],
            (k, t) => k.RouteBackward(
                t[5], t[2], t[3], balance ? t[7] : default, balance ? t[11] : default, t[10], routing),
            [(0, 10)],
            [
                .. RouteTensors(routing, Tokens, bias), Data.Normal(Tokens, 3), factor, balanceGradient,
                Data.Garbage(3, 12), Data.Garbage(3, 12), Data.Garbage(Tokens, 12), Data.Ints(sequenceOfToken),
            ]);
    }

    [Fact]
    public void Gradients_of_cross_entropy() => AssertGradients(
        (k, t) => k.CrossEntropy(t[0], t[1], t[2], 0), [(2, 3)],
        (k, t) =>
        {
            k.Copy(t[0], t[4]);
            k.CrossEntropy(t[4], t[1], t[2], 0.25f);
        },
        [(0, 4)],
        Data.Normal(4, 12), Data.Ints(0, 11, -1, 5), Data.GarbageVector(4), Data.Vector(0.25f, 0.25f, 0.25f, 0.25f),
        Data.Garbage(4, 12));

    [Fact]
    public void Gradients_of_the_embedding() => AssertGradients(
        (k, t) => k.GatherRows(t[0], t[1], default, t[2]), [(2, 3)],
        (k, t) => k.EmbeddingBackward(t[3], t[1], t[4]), [(0, 4)],
        Data.Normal(5, 8), Data.Ints(3, 1, 3, 0, 3, 1), Data.Garbage(6, 8), Data.Normal(6, 8), Data.Filled(5, 8, 0));

    [Fact]
    public void Gradients_of_combine()
    {
        // y[0] = w0 x2 + w1 x0, y[1] = w2 x2 + w3 x1 + w4 x3. Of the weights: DotRows; of the rows: SumRows along the
        // inverse map, whose weights are gathered as rows of one value.
        AssertGradients(
            (k, t) => k.SumRows(t[0], t[2], t[1], t[3], t[4]), [(4, 5)],
            (k, t) =>
            {
                k.DotRows(t[5], t[6], t[0], t[2], t[7]);
                k.GatherRows(t[1].Reshape(new(5, 1)), t[8], default, t[9].Reshape(new(5, 1)));
                k.SumRows(t[5], t[10], t[9], t[11], t[12]);
            },
            [(0, 12), (1, 7)],
            Data.Normal(4, 6), Data.NormalVector(5), Data.Ints(2, 0, 2, 1, 3), Data.Ints(0, 2, 5), Data.Garbage(2, 6),
            Data.Normal(2, 6), Data.Ints(0, 0, 1, 1, 1), Data.GarbageVector(5), Data.Ints(1, 3, 0, 2, 4),
            Data.GarbageVector(5), Data.Ints(0, 1, 0, 1, 1), Data.Ints(0, 1, 2, 4, 5), Data.Garbage(4, 6));
    }
}
