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

    /// <inheritdoc/>
    public void AbsorbedAttention(
        Tensor query, Tensor upProjection, Tensor cache, int firstPosition, Tensor output, in AttentionShape attention)
    {
        KernelChecks.AbsorbedAttention(query, upProjection, cache, firstPosition, output, attention);
        int latent = upProjection.Columns;
        int perHead = attention.NopeDim + attention.ValueDim;
        float[] absorbed = new float[latent];
        float[] context = new float[latent];
        float[] p = new float[firstPosition + query.Rows];
        for (int r = 0; r < query.Rows; r++)
        {
            Span<float> row = p.AsSpan(0, firstPosition + r + 1);
            for (int h = 0; h < attention.Heads; h++)
            {
                // qNope . (Wk c) = (Wk^T qNope) . c: the key projection moves from every cached row to the one query.
                Span<float> nope = QueryNope(query, attention, h, r);
                absorbed.AsSpan().Clear();
                for (int n = 0; n < attention.NopeDim; n++)
                {
                    MultiplyAdd(nope[n], upProjection.Row((h * perHead) + n), absorbed);
                }

                for (int j = 0; j < row.Length; j++)
                {
                    Span<float> cached = cache.Row(j);
                    float dot = Dot(absorbed, cached[..latent]);
                    row[j] = attention.Scale * Dot(QueryRope(query, attention, h, r), cached[latent..], dot);
                }

                (_, float sum) = ExpAndSum(row);
                context.AsSpan().Clear();
                for (int j = 0; j < row.Length; j++)
                {
                    MultiplyAdd(row[j], cache.Row(j)[..latent], context);
                }

                Divide(context, sum);

                // sum of p (Wv c) = Wv (sum of p c): the value projection is applied once, to the context.
                Span<float> head = output.Row(r).Slice(h * attention.ValueDim, attention.ValueDim);
                for (int v = 0; v < attention.ValueDim; v++)
                {
                    head[v] = Dot(context, upProjection.Row((h * perHead) + attention.NopeDim + v));
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
