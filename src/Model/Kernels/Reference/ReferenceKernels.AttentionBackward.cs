using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Reference;

/// <content>Gradient of attention, with the probabilities recomputed from the kept log-sum-exp.</content>
public sealed unsafe partial class ReferenceKernels
{
    /// <inheritdoc/>
    public void AttentionBackward(
        Tensor gradOutput, Tensor query, Tensor keyValue, Tensor keyRope, Tensor output, Tensor logSumExp,
        Tensor gradQuery, Tensor gradKeyValue, Tensor gradKeyRope, in AttentionShape attention)
    {
        KernelChecks.AttentionBackward(
            gradOutput, query, keyValue, keyRope, output, logSumExp,
            gradQuery, gradKeyValue, gradKeyRope, attention);
        Fill(gradQuery, 0);
        Fill(gradKeyValue, 0);
        Fill(gradKeyRope, 0);

        // The rope key is shared: each head's share is finished on its own, then added in index order.
        float[] headKeyRope = new float[query.Rows * attention.RopeDim];
        for (int h = 0; h < attention.Heads; h++)
        {
            headKeyRope.AsSpan().Clear();
            for (int s = 0; s + 1 < attention.SequenceStarts.Length; s++)
            {
                int start = attention.SequenceStarts[s];
                for (int i = start; i < attention.SequenceStarts[s + 1]; i++)
                {
                    QueryRowBackward(
                        gradOutput, query, keyValue, keyRope, output, logSumExp.Row(h)[i],
                        gradQuery, gradKeyValue, headKeyRope, attention, h, start, i);
                }
            }

            for (int t = 0; t < query.Rows; t++)
            {
                Span<float> sum = gradKeyRope.Row(t);
                for (int d = 0; d < sum.Length; d++)
                {
                    sum[d] += headKeyRope[(t * attention.RopeDim) + d];
                }
            }
        }
    }

    /// <summary>All that query row i of head h sends back: to itself and to the keys and values it saw.</summary>
    private static void QueryRowBackward(
        Tensor gradOutput, Tensor query, Tensor keyValue, Tensor keyRope, Tensor output, float logSumExp,
        Tensor gradQuery, Tensor gradKeyValue, Span<float> gradKeyRope, in AttentionShape attention,
        int h, int start, int i)
    {
        ReadOnlySpan<float> g = Rounded(
            gradOutput.Row(i).Slice(h * attention.ValueDim, attention.ValueDim), attention);
        ReadOnlySpan<float> queryNope = Rounded(QueryNope(query, attention, h, i), attention);
        ReadOnlySpan<float> queryRope = Rounded(QueryRope(query, attention, h, i), attention);

        // sum over keys of p dp, which is g . output: the row term of the softmax Jacobian.
        float delta = Dot(g, output.Row(i).Slice(h * attention.ValueDim, attention.ValueDim));
        for (int j = start; j <= i; j++)
        {
            float p = MathF.Exp(Score(query, keyValue, keyRope, attention, h, i, j) - logSumExp);
            MultiplyAdd(Round(p, attention), g, Value(gradKeyValue, attention, h, j));

            float dp = Dot(g, Rounded(Value(keyValue, attention, h, j), attention));
            float ds = Round(p * (dp - delta), attention) * attention.Scale;
            ReadOnlySpan<float> keyNope = Rounded(KeyNope(keyValue, attention, h, j), attention);
            MultiplyAdd(ds, keyNope, QueryNope(gradQuery, attention, h, i));
            MultiplyAdd(ds, Rounded(keyRope.Row(j), attention), QueryRope(gradQuery, attention, h, i));
            MultiplyAdd(ds, queryNope, KeyNope(gradKeyValue, attention, h, j));
            MultiplyAdd(ds, queryRope, gradKeyRope.Slice(j * attention.RopeDim, attention.RopeDim));
        }
    }
}
