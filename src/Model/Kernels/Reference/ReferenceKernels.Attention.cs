using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Reference;

/// <content>Causal attention in its expanded and absorbed forms.</content>
public sealed unsafe partial class ReferenceKernels
{
    /// <inheritdoc/>
    public void Attention(
        Tensor query, Tensor keyValue, Tensor keyRope, Tensor output, Tensor logSumExp, in AttentionShape attention)
    {
        KernelChecks.Attention(query, keyValue, keyRope, output, logSumExp, attention);
        float[] p = new float[query.Rows];
        for (int h = 0; h < attention.Heads; h++)
        {
            for (int s = 0; s + 1 < attention.SequenceStarts.Length; s++)
            {
                int start = attention.SequenceStarts[s];
                for (int i = start; i < attention.SequenceStarts[s + 1]; i++)
                {
                    Span<float> row = p.AsSpan(0, i - start + 1);
                    for (int j = start; j <= i; j++)
                    {
                        row[j - start] = Score(query, keyValue, keyRope, attention, h, i, j);
                    }

                    (float maximum, float sum) = ExpAndSum(row);
                    logSumExp.Row(h)[i] = maximum + MathF.Log(sum);

                    // output = sum over keys of p v / sum of p, keys in rising order.
                    Span<float> context = output.Row(i).Slice(h * attention.ValueDim, attention.ValueDim);
                    context.Clear();
                    for (int j = start; j <= i; j++)
                    {
                        float weight = Round(row[j - start], attention);
                        MultiplyAdd(weight, Rounded(Value(keyValue, attention, h, j), attention), context);
                    }

                    Divide(context, sum);
                }
            }
        }
    }

    /// <summary>scale * (qNope . kNope + qRope . kRope) of query row i and key row j under head h.</summary>
    private static float Score(
        Tensor query, Tensor keyValue, Tensor keyRope, in AttentionShape attention, int h, int i, int j)
    {
        float dot = Dot(
            Rounded(QueryNope(query, attention, h, i), attention),
            Rounded(KeyNope(keyValue, attention, h, j), attention));
        return attention.Scale * Dot(
            Rounded(QueryRope(query, attention, h, i), attention), Rounded(keyRope.Row(j), attention), dot);
    }

    private static float Round(float value, in AttentionShape attention) =>
        attention.Operand == DType.BFloat16 ? BFloat16Format.Round(value) : value;

    /// <summary>An operand of a product: a rounded copy, or the values themselves.</summary>
    private static ReadOnlySpan<float> Rounded(ReadOnlySpan<float> values, in AttentionShape attention)
    {
        if (attention.Operand != DType.BFloat16)
        {
            return values;
        }

        float[] copy = new float[values.Length];
        for (int i = 0; i < copy.Length; i++)
        {
            copy[i] = BFloat16Format.Round(values[i]);
        }

        return copy;
    }

    /// <summary>Replaces scores by exp(score - maximum); gives the maximum and the sum in rising order.</summary>
    private static (float Maximum, float Sum) ExpAndSum(Span<float> scores)
    {
        float maximum = float.NegativeInfinity;
        foreach (float score in scores)
        {
            maximum = MathF.Max(maximum, score);
        }

        float sum = 0;
        for (int j = 0; j < scores.Length; j++)
        {
            scores[j] = MathF.Exp(scores[j] - maximum);
            sum += scores[j];
        }

        return (maximum, sum);
    }

    private static void Divide(Span<float> values, float divisor)
    {
        for (int i = 0; i < values.Length; i++)
        {
            values[i] /= divisor;
        }
    }

    private static Span<float> QueryNope(Tensor query, in AttentionShape attention, int h, int row)
        => query.Row(row).Slice(h * (attention.NopeDim + attention.RopeDim), attention.NopeDim);

    private static Span<float> QueryRope(Tensor query, in AttentionShape attention, int h, int row)
        => query.Row(row).Slice(
            (h * (attention.NopeDim + attention.RopeDim)) + attention.NopeDim, attention.RopeDim);

    private static Span<float> KeyNope(Tensor keyValue, in AttentionShape attention, int h, int row)
        => keyValue.Row(row).Slice(h * (attention.NopeDim + attention.ValueDim), attention.NopeDim);

    private static Span<float> Value(Tensor keyValue, in AttentionShape attention, int h, int row)
        => keyValue.Row(row).Slice(
            (h * (attention.NopeDim + attention.ValueDim)) + attention.NopeDim, attention.ValueDim);
}
