using Krewe.Model.Kernels;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Kernels;

/// <content>Attention.</content>
public abstract unsafe partial class KernelContract
{
    /// <summary>Heads, nope, rope, value; then where the sequences begin.</summary>
    public static TheoryData<int[], int[]> AttentionCases => new()
    {
        { [1, 16, 8, 16], [0, 1] },
        { [2, 5, 2, 3], [0, 1, 2, 9] },
        { [4, 8, 4, 8], [0, 7, 7, 8, 30] },
        { [2, 48, 32, 16], [0, 1, 65] },
        { [3, 96, 64, 32], [0, 17, 50] },
        { [2, 128, 64, 128], [0, 33] },
        { [3, 32, 16, 32], [0, 64, 65, 128] },
        { [2, 16, 16, 24], [0, 131] },
        { [1, 24, 8, 40], [0, 3, 150] },
    };

    /// <summary>Sizes that tensor cores take, whose keys fill several of their tiles.</summary>
    public static TheoryData<int[], int[]> RoundedAttentionCases => new()
    {
        { [1, 16, 16, 16], [0, 1] },
        { [2, 16, 32, 48], [0, 3, 3, 131, 132] },
        { [3, 64, 32, 64], [0, 65, 300] },
        { [2, 128, 64, 128], [0, 17, 290] },
        { [2, 48, 32, 16], [0, 128, 256, 320] },
    };

    /// <summary>
    /// A probability is rounded relative to the largest score so far, which depends on how keys are cut into tiles: two
    /// backends' weights differ by up to 2^-8 of themselves, as do gradients of scores next to a tie.
    /// </summary>
    private static double RoundedTolerance => 2 * TensorAssert.Tolerance(DType.BFloat16);

    private static AttentionShape Shape(int[] sizes, int[] starts)
        => new(sizes[0], sizes[1], sizes[2], sizes[3], MathF.Pow(sizes[1] + sizes[2], -0.5f), starts);

    /// <summary>query, keyValue, keyRope, output, logSumExp.</summary>
    private Tensor[] AttentionTensors(AttentionShape shape, float scale = 1)
    {
        int tokens = shape.SequenceStarts[^1];
        return
        [
            Data.Normal(tokens, shape.Heads * (shape.NopeDim + shape.RopeDim), scale, gap: 4),
            Data.Normal(tokens, shape.Heads * (shape.NopeDim + shape.ValueDim)),
            Data.Normal(tokens, shape.RopeDim, gap: 9),
            Data.Garbage(tokens, shape.Heads * shape.ValueDim, gap: 1),
            Data.Garbage(shape.Heads, tokens),
        ];
    }

    /// <summary>The same, the forward's results in place; gradOutput, gradQuery, gradKeyValue, gradKeyRope.</summary>
    private Tensor[] AttentionBackwardTensors(AttentionShape shape)
    {
        Tensor[] t = AttentionTensors(shape);
        _reference.Attention(t[0], t[1], t[2], t[3], t[4], shape);
        return
        [
            .. t, Data.Normal(t[3].Rows, t[3].Columns, gap: 2),
            Data.Garbage(t[0].Rows, t[0].Columns, gap: 3), Data.Garbage(t[1].Rows, t[1].Columns),
            Data.Garbage(t[2].Rows, t[2].Columns, gap: 6),
        ];
    }

    [Theory]
    [MemberData(nameof(AttentionCases))]
    public void Attention_agrees(int[] sizes, int[] starts)
    {
        AttentionShape shape = Shape(sizes, starts);
        foreach (float scale in (ReadOnlySpan<float>)[1, 40])
        {
            Compare(
                $"scale {scale}", Tolerance * scale, (k, t) => k.Attention(t[0], t[1], t[2], t[3], t[4], shape),
                AttentionTensors(shape, scale));
        }
    }

    [Theory]
    [MemberData(nameof(AttentionCases))]
    public void Attention_backward_agrees(int[] sizes, int[] starts)
    {
        AttentionShape shape = Shape(sizes, starts);
        Compare(
            "backward", 2 * Tolerance,
            (k, x) => k.AttentionBackward(x[5], x[0], x[1], x[2], x[3], x[4], x[6], x[7], x[8], shape),
            AttentionBackwardTensors(shape));
    }

    [Theory]
    [MemberData(nameof(AttentionCases))]
    [MemberData(nameof(RoundedAttentionCases))]
    public void Attention_of_bfloat16_operands_agrees(int[] sizes, int[] starts)
    {
        AttentionShape shape = Shape(sizes, starts) with { Operand = DType.BFloat16 };
        Compare(
            "forward", RoundedTolerance, (k, t) => k.Attention(t[0], t[1], t[2], t[3], t[4], shape),
            AttentionTensors(shape));
    }

    [Theory]
    [MemberData(nameof(AttentionCases))]
    [MemberData(nameof(RoundedAttentionCases))]
    public void Attention_backward_of_bfloat16_operands_agrees(int[] sizes, int[] starts)
    {
        AttentionShape shape = Shape(sizes, starts) with { Operand = DType.BFloat16 };
        Compare(
            "backward", RoundedTolerance,
            (k, x) => k.AttentionBackward(x[5], x[0], x[1], x[2], x[3], x[4], x[6], x[7], x[8], shape),
            AttentionBackwardTensors(shape));
    }

    [Theory]
    [MemberData(nameof(RoundedAttentionCases))]
    public void Operands_that_are_bfloat16_already_change_nothing(int[] sizes, int[] starts)
    {
        AttentionShape shape = Shape(sizes, starts) with { Operand = DType.BFloat16 };
        Tensor[] tensors = AttentionBackwardTensors(shape);
        Tensor[] asGiven = RunOnDevice(Run, tensors);
        foreach (Tensor operand in (Tensor[])[tensors[0], tensors[1], tensors[2], tensors[5]])
        {
            _reference.RoundToBFloat16(operand, operand);
        }

        Tensor[] rounded = RunOnDevice(Run, tensors);
        foreach (int i in (int[])[3, 4, 6, 7, 8])
        {
            TensorAssert.Same(asGiven[i], rounded[i], $"tensor {i}");
        }

        void Run(IKernels k, Tensor[] x)
        {
            k.Attention(x[0], x[1], x[2], x[3], x[4], shape);
            k.AttentionBackward(x[5], x[0], x[1], x[2], x[3], x[4], x[6], x[7], x[8], shape);
        }
    }

    [Fact]
    public void Attention_of_a_single_token_is_its_value()
    {
        AttentionShape shape = Shape([2, 6, 4, 5], [0, 1]);
        Tensor[] t = RunOnDevice((k, x) => k.Attention(x[0], x[1], x[2], x[3], x[4], shape), AttentionTensors(shape));
        for (int h = 0; h < 2; h++)
        {
            TensorAssert.Close(
                t[1].SliceColumns((h * 11) + 6, 5), t[3].SliceColumns(h * 5, 5), Tolerance, $"head {h}");
        }
    }

    [Theory]
    [InlineData(DType.Float32, 6, 4, 5)]
    [InlineData(DType.BFloat16, 16, 16, 32)]
    public void A_sequence_does_not_see_its_neighbours(DType operand, int nope, int rope, int value)
    {
        AttentionShape packed = Shape([2, nope, rope, value], [0, 3, 10]) with { Operand = operand };
        AttentionShape alone = packed with { SequenceStarts = [0, 7] };
        Tensor[] input = AttentionTensors(packed);
        Tensor together = RunOnDevice((k, x) => k.Attention(x[0], x[1], x[2], x[3], x[4], packed), input)[3];
        Tensor apart = RunOnDevice(
            (k, x) => k.Attention(
                x[0].SliceRows(3, 7), x[1].SliceRows(3, 7), x[2].SliceRows(3, 7), x[3].SliceRows(3, 7),
                new Tensor(x[4].Address, new TensorShape(2, 7)), alone),
            input)[3];
        TensorAssert.Same(together.SliceRows(3, 7), apart.SliceRows(3, 7), "packed against alone");
    }
}
