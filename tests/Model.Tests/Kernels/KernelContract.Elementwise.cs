using Krewe.Model.Kernels;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Kernels;

/// <content>Kernels that work row by row or value by value: every length from 1 to 256.</content>
public abstract unsafe partial class KernelContract
{
    private void EveryLength(Action<int, int, string> test)
    {
        for (int length = 1; length <= 256; length++)
        {
            Data.Reset();
            int gap = length % 4 == 0 ? 3 : 0;
            test(length, gap, $"length {length} gap {gap}");
        }
    }

    [Fact]
    public void Rms_norm_agrees() => EveryLength((length, gap, context) => Compare(
        context, Tolerance, (k, t) => k.RmsNorm(t[0], t[1], t[2], t[3], 1e-6f),
        Data.Normal(3, length, gap: gap), Data.NormalVector(length), Data.Garbage(3, length, gap: gap),
        Data.GarbageVector(3)));

    [Theory]
    [InlineData(1, 1)]
    [InlineData(1, 9)]
    [InlineData(3, 5)]
    [InlineData(70, 333)]
    public void Normal_values_agree(int rows, int columns) => Compare(
        $"{rows} x {columns}", NormalTolerance, (k, t) => k.FillNormal(t[0], 0x0123456789ABCDEF, 0.02),
        Data.Garbage(rows, columns));

    [Fact]
    public void Rms_norm_of_a_zero_row_is_zero()
    {
        Tensor[] result = RunOnDevice(
            (k, t) => k.RmsNorm(t[0], t[1], t[2], t[3], 1e-6f),
            [Data.Filled(1, 40, 0), Data.NormalVector(40), Data.Garbage(1, 40), Data.GarbageVector(1)]);
        Assert.All(result[2].AsSpan<float>().ToArray(), value => Assert.Equal(0, value));
        Assert.Equal(1000, result[3].Floats[0], 0.1f);
    }

    [Fact]
    public void Rms_norm_backward_input_agrees() => EveryLength((length, gap, context) => Compare(
        context, Tolerance, (k, t) => k.RmsNormBackwardInput(t[0], t[1], t[2], t[3], t[4], length % 2 == 0),
        Data.Normal(3, length, gap: gap), Data.Normal(3, length, gap: gap), Data.NormalVector(length),
        Data.NormalVector(3), length % 2 == 0 ? Data.Normal(3, length, gap: gap) : Data.Garbage(3, length)));

    [Fact]
    public void Rms_norm_backward_input_adds_a_residual() => EveryLength((length, gap, context) => Compare(
        context, Tolerance, (k, t) => k.RmsNormBackwardInput(t[0], t[1], t[2], t[3], t[4], length % 2 == 0, t[5]),
        Data.Normal(3, length, gap: gap), Data.Normal(3, length, gap: gap), Data.NormalVector(length),
        Data.NormalVector(3), Data.Garbage(3, length), Data.Normal(3, length, gap: gap)));

    [Fact]
    public void Rms_norm_backward_weight_agrees() => EveryLength((length, gap, context) => Compare(
        context, Tolerance, (k, t) => k.RmsNormBackwardWeight(t[0], t[1], t[2], t[3]),
        Data.Normal(5, length, gap: gap), Data.Normal(5, length, gap: gap), Data.NormalVector(5),
        Data.NormalVector(length)));

    [Theory]
    [InlineData(256, 40)]
    [InlineData(257, 40)]
    [InlineData(3000, 33)]
    [InlineData(1100, 256)]
    public void Rms_norm_backward_weight_of_many_rows_agrees(int rows, int length)
    {
        foreach (int gap in (ReadOnlySpan<int>)[0, 3])
        {
            Data.Reset();
            Compare(
                $"{rows} rows of {length} gap {gap}", Tolerance, (k, t) => k.RmsNormBackwardWeight(t[0], t[1], t[2], t[3]),
                Data.Normal(rows, length, gap: gap), Data.Normal(rows, length, gap: gap), Data.NormalVector(rows),
                Data.NormalVector(length));
        }
    }

    [Fact]
    public void Swiglu_agrees() => EveryLength((length, gap, context) => Compare(
        context, Tolerance, (k, t) => k.SwiGlu(t[0], t[1], t[2]),
        Data.Normal(2, length, 3, gap), Data.Normal(2, length, 1, gap), Data.Garbage(2, length, gap: gap)));

    [Fact]
    public void Swiglu_backward_agrees() => EveryLength((length, gap, context) => Compare(
        context, Tolerance, (k, t) => k.SwiGluBackward(t[0], t[1], t[2], t[3], t[4]),
        Data.Normal(2, length, 1, gap), Data.Normal(2, length, 3, gap), Data.Normal(2, length, 1, gap),
        Data.Garbage(2, length, gap: gap), Data.Garbage(2, length, gap: gap)));

    [Fact]
    public void Outputs_in_bfloat16_are_the_nearest_values() => EveryLength((length, gap, context) =>
    {
        Tensor[] result = RunOnDevice(
            (k, t) =>
            {
                k.SwiGlu(t[0], t[1], t[3]);
                k.RoundToBFloat16(t[3], t[4]);
                k.SwiGlu(t[0], t[1], t[5]);
                k.RmsNorm(t[0], t[2], t[3], t[10], 1e-6f);
                k.RoundToBFloat16(t[3], t[6]);
                k.RmsNorm(t[0], t[2], t[7], t[10], 1e-6f);
                k.SwiGluBackward(t[1], t[0], t[1], t[3], t[11]);
                k.RoundToBFloat16(t[3], t[12]);
                k.RoundToBFloat16(t[11], t[13]);
                k.SwiGluBackward(t[1], t[0], t[1], t[8], t[9]);
            },
            [
                Data.Normal(3, length, 3, gap), Data.Normal(3, length, 1, gap), Data.NormalVector(length),
                Data.Garbage(3, length, gap: gap), Half(), Half(gap), Half(), Half(gap), Half(gap), Half(gap),
                Data.GarbageVector(3), Data.Garbage(3, length), Half(), Half(),
            ]);
        foreach ((int expected, int actual) in (ReadOnlySpan<(int, int)>)[(4, 5), (6, 7), (12, 8), (13, 9)])
        {
            TensorAssert.Same(result[expected], result[actual], $"{context}, tensor {actual}");
        }

        _results.Reset();

        Tensor Half(int own = 0) => Data.Garbage(3, length, DType.BFloat16, own);
    });

    [Fact]
    public void Swiglu_backward_may_write_over_its_inputs() => EveryLength((length, gap, context) =>
    {
        Tensor[] result = RunOnDevice(
            (k, t) =>
            {
                k.SwiGluBackward(t[0], t[1], t[2], t[3], t[4]);
                k.SwiGluBackward(t[0], t[1], t[2], t[1], t[2]);
            },
            [
                Data.Normal(2, length), Data.Normal(2, length), Data.Normal(2, length),
                Data.Garbage(2, length), Data.Garbage(2, length),
            ]);
        TensorAssert.Same(result[3], result[1], context + " gradGate");
        TensorAssert.Same(result[4], result[2], context + " gradUp");
        _results.Reset();
    });

    [Fact]
    public void Swiglu_is_finite_far_out()
    {
        Tensor gate = Data.Vector(-1e4f, -200, -90, -88, 88, 90, 200, 1e4f);
        Tensor ones = Data.Vector(1, 1, 1, 1, 1, 1, 1, 1);
        Tensor[] result = RunOnDevice(
            (k, t) =>
            {
                k.SwiGlu(t[0], t[1], t[2]);
                k.SwiGluBackward(t[1], t[0], t[1], t[3], t[4]);
            },
            [gate, ones, Data.GarbageVector(8), Data.GarbageVector(8), Data.GarbageVector(8)]);
        float[] expected = [0, 0, 0, 0, 88, 90, 200, 1e4f];
        for (int i = 0; i < 8; i++)
        {
            Assert.Equal(expected[i], result[2].Floats[i], 1e-4f);
            Assert.Equal(i < 4 ? 0 : 1, result[3].Floats[i], 1e-4f);
            Assert.Equal(expected[i], result[4].Floats[i], 1e-4f);
        }
    }

    [Fact]
    public void Rotary_embedding_agrees()
    {
        foreach (int ropeDim in (int[])[2, 4, 6, 8, 10, 16, 30, 32, 34, 64, 128])
        {
            (int, int, int)[] layouts = [(1, 0, 0), (3, 5, 0), (4, 128, 2)];
            foreach ((int heads, int nope, int behind) in layouts)
            {
                Data.Reset();
                Tensor data = Data.Normal(6, heads * (nope + ropeDim + behind), gap: 7);
                Tensor table = Angles(20, ropeDim);
                foreach (bool inverse in (ReadOnlySpan<bool>)[false, true])
                {
                    Compare(
                        $"rope {ropeDim} heads {heads} nope {nope} inverse {inverse}", Tolerance,
                        (k, t) => k.RotaryEmbedding(t[0], heads, nope, t[1], t[2], inverse),
                        data, table, Data.RandomInts(6, 0, 20));
                }
            }
        }
    }

    [Fact]
    public void Rotary_embedding_turns_pairs_and_back()
    {
        Tensor table = Angles(3, 2);
        (float sin, float cos) = MathF.SinCos(2);
        Tensor[] result = RunOnDevice(
            (k, t) =>
            {
                k.RotaryEmbedding(t[0], 1, 0, t[2], t[3]);
                k.RotaryEmbedding(t[1], 1, 0, t[2], t[3]);
                k.RotaryEmbedding(t[1], 1, 0, t[2], t[3], inverse: true);
            },
            [Data.Vector(1, 0).Reshape(new(1, 2)), Data.Vector(3, 4).Reshape(new(1, 2)), table, Data.Ints(2)]);
        Assert.Equal(cos, result[0].Floats[0], 1e-6f);
        Assert.Equal(sin, result[0].Floats[1], 1e-6f);
        Assert.Equal(3, result[1].Floats[0], 1e-5f);
        Assert.Equal(4, result[1].Floats[1], 1e-5f);
    }

    private Tensor Angles(int positions, int ropeDim)
    {
        Tensor table = Data.Garbage(positions, ropeDim);
        for (int p = 0; p < positions; p++)
        {
            for (int i = 0; i < ropeDim; i += 2)
            {
                (table.Row(p)[i + 1], table.Row(p)[i]) = MathF.SinCos(p * MathF.Pow(10_000, -(float)i / ropeDim));
            }
        }

        return table;
    }

    [Fact]
    public void Add_copy_and_fill_agree() => EveryLength((length, gap, context) =>
    {
        Compare(
            context + " add", 0, (k, t) => k.Add(t[0], t[1]),
            Data.Normal(3, length, gap: gap), Data.Normal(3, length, gap: 2));
        Compare(
            context + " copy", 0, (k, t) => k.Copy(t[0], t[1]),
            Data.Normal(3, length, gap: gap), Data.Garbage(3, length, gap: 2));
        Compare(context + " fill", 0, (k, t) => k.Fill(t[0], 1.25f), Data.Garbage(3, length, gap: gap));
        Compare(
            context + " fill bfloat16", 0, (k, t) => k.Fill(t[0], 1.25f),
            Data.Garbage(3, length, DType.BFloat16, gap: gap));
        Compare(
            context + " copy ints", 0, (k, t) => k.Copy(t[0], t[1]),
            Data.RandomInts(length, 0, 99), Data.GarbageVector(length, DType.Int32));
    });

    [Fact]
    public void Sum_of_squares_agrees_and_repeats() => EveryLength((length, gap, context) =>
    {
        Tensor values = Data.Normal(3, length, gap: gap);
        Tensor more = Data.Normal(40, length);
        double[] expected = new double[2], actual = new double[2], again = new double[2];
        _reference.SumsOfSquares([values, more], expected);
        RunOnDevice((k, t) => k.SumsOfSquares(t, actual), [values, more]);
        RunOnDevice((k, t) => k.SumsOfSquares(t, again), [values, more]);
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.True(
                Math.Abs(actual[i] - expected[i]) <= 1e-12 * expected[i],
                $"{context}, {i}: expected {expected[i]}, got {actual[i]}");
        }

        Assert.Equal(actual, again);
        _results.Reset();
    });

    [Theory]
    [InlineData(DType.Float32)]
    [InlineData(DType.BFloat16)]
    public void AdamW_agrees(DType moments) => EveryLength((length, gap, context) =>
    {
        var step = new AdamWStep(1e-2f, 0.9f, 0.95f, 1e-8f, 0.1f, 1 + (length % 5), 0.5f);
        Tensor first = Data.Garbage(2, length, moments, gap);
        Tensor second = Data.Garbage(2, length, moments, gap);
        _reference.AdamW(
            [new(Data.Normal(2, length), Data.Normal(2, length), Zeroed(first), Zeroed(second))], step);
        Compare(
            context, Tolerance, (k, t) => k.AdamW([new(t[0], t[1], t[2], t[3])], step),
            Data.Normal(2, length, gap: gap), Data.Normal(2, length, gap: 1), first, second);
    });

    [Fact]
    public void AdamW_rounds_the_new_weight_and_clears_the_gradient() => EveryLength((length, gap, context) =>
    {
        var step = new AdamWStep(1e-2f, 0.9f, 0.95f, 1e-8f, 0.1f, 1, 0.5f);
        Tensor[] result = RunOnDevice(
            (k, t) =>
            {
                k.AdamW([new(t[0], t[1], t[2], t[3], true, t[4])], step);
                k.RoundToBFloat16(t[0], t[5]);
            },
            [
                Data.Normal(2, length, gap: gap), Data.Normal(2, length), Data.Filled(2, length, 0),
                Data.Filled(2, length, 0), Data.Garbage(2, length, DType.BFloat16, gap),
                Data.Garbage(2, length, DType.BFloat16),
            ]);
        TensorAssert.Same(result[5], result[4], context);
        Assert.All(result[1].AsSpan<float>().ToArray(), value => Assert.Equal(0, value));
        _results.Reset();
    });

    [Fact]
    public void AdamW_updates_many_parameters_each_as_if_alone()
    {
        var step = new AdamWStep(1e-2f, 0.9f, 0.95f, 1e-8f, 0.1f, 7, 0.5f);
        int[] lengths = [.. Enumerable.Range(0, 70).Select(i => i * i * 3 % 1100), 4096, 9003];
        Tensor[] tensors = [.. lengths.SelectMany(length => new[]
        {
            Data.Normal(2, length, gap: length % 2), Data.Normal(2, length),
            Zeroed(Data.Garbage(2, length, length % 3 == 0 ? DType.BFloat16 : DType.Float32)),
            Zeroed(Data.Garbage(2, length)),
        })];
        Compare(
            "many", Tolerance,
            (k, t) => k.AdamW(
                [.. Enumerable.Range(0, lengths.Length).Select(i => new AdamWParameter(
                    t[4 * i], t[(4 * i) + 1], t[(4 * i) + 2], t[(4 * i) + 3], i % 5 != 0))],
                step),
            tensors);
    }

    [Fact]
    public void AdamW_matches_a_step_in_float64()
    {
        var step = new AdamWStep(1e-2f, 0.9f, 0.95f, 1e-8f, 0.1f, 3, 0.5f);
        Tensor[] result = RunOnDevice(
            (k, t) => k.AdamW([new(t[0], t[1], t[2], t[3])], step),
            [Data.Vector(2), Data.Vector(4), Data.Vector(0.5f), Data.Vector(0.25f)]);
        double g = 4 * 0.5;
        double m = (0.9 * 0.5) + (0.1 * g);
        double v = (0.95 * 0.25) + (0.05 * g * g);
        double w = 2 - (1e-2 * 0.1 * 2);
        w -= 1e-2 / (1 - Math.Pow(0.9, 3)) * m / (Math.Sqrt(v / (1 - Math.Pow(0.95, 3))) + 1e-8);
        Assert.Equal((float)w, result[0].Floats[0], 1e-6f);
        Assert.Equal((float)m, result[2].Floats[0], 1e-6f);
        Assert.Equal((float)v, result[3].Floats[0], 1e-6f);
    }

    [Fact]
    public void AdamW_rounds_moments_to_the_nearest_even_bfloat16()
    {
        // Betas of 0 store the gradient and its square: 1 + 2^-8 lies midway and goes down to the even 1, 1 + 3 * 2^-8
        // midway goes up to the even 1 + 2^-6.
        var step = new AdamWStep(0, 0, 0, 1e-8f, 0, 1, 1);
        Tensor first = Zeroed(Data.GarbageVector(2, DType.BFloat16));
        Tensor second = Zeroed(Data.GarbageVector(2, DType.BFloat16));
        Tensor[] result = RunOnDevice(
            (k, t) => k.AdamW([new(t[0], t[1], t[2], t[3])], step),
            [Data.Vector(1, 1), Data.Vector(1 + (1 / 256f), 1 + (3 / 256f)), first, second]);
        Assert.Equal(1, TensorAssert.Read(result[2], 0, 0));
        Assert.Equal(1 + (1 / 64.0), TensorAssert.Read(result[2], 0, 1));
    }

    private static Tensor Zeroed(Tensor tensor)
    {
        int bytes = tensor.DType.SizeInBytes();
        for (int row = 0; row < tensor.Rows; row++)
        {
            new Span<byte>((byte*)tensor.Address + (row * tensor.RowStride * bytes), tensor.Columns * bytes).Clear();
        }

        return tensor;
    }
}
