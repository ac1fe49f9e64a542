using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Reference;

/// <content>Attention in its absorbed form over pages of cached latents.</content>
public sealed unsafe partial class ReferenceKernels
{
    /// <inheritdoc/>
    public void StoreLatents(Tensor latent, Tensor keyRope, in LatentPages pages)
    {
        KernelChecks.StoreLatents(latent, keyRope, pages);
        for (int r = 0; r < latent.Rows; r++)
        {
            float[] row = [.. latent.Row(r), .. keyRope.Row(r)];
            int at = RowOfToken(pages, r, pages.Positions.Ints[r]);
            if (pages.Rows.DType == DType.BFloat16)
            {
                BFloat16Format.Encode(row, BFloat16Row(pages.Rows, at));
            }
            else
            {
                row.CopyTo(pages.Rows.Row(at));
            }
        }
    }

    /// <inheritdoc/>
    public void AbsorbedAttention(
        Tensor query, Tensor upProjection, in LatentPages pages, Tensor output, in AttentionShape attention)
    {
        KernelChecks.AbsorbedAttention(query, upProjection, pages, output, attention);
        int latent = upProjection.Columns;
        int perHead = attention.NopeDim + attention.ValueDim;
        float[] absorbed = new float[latent];
        float[] context = new float[latent];
        for (int r = 0; r < query.Rows; r++)
        {
            float[] p = new float[pages.Positions.Ints[r] + 1];
            float[][] cache = new float[p.Length][];
            for (int j = 0; j < p.Length; j++)
            {
                cache[j] = CachedRow(pages, RowOfToken(pages, r, j));
            }

            for (int h = 0; h < attention.Heads; h++)
            {
                // qNope . (Wk c) = (Wk^T qNope) . c: the key projection moves from every cached row to the one query.
                Span<float> nope = QueryNope(query, attention, h, r);
                absorbed.AsSpan().Clear();
                for (int n = 0; n < attention.NopeDim; n++)
                {
                    MultiplyAdd(nope[n], upProjection.Row((h * perHead) + n), absorbed);
                }

                for (int j = 0; j < p.Length; j++)
                {
                    float dot = Dot(absorbed, cache[j].AsSpan(0, latent));
                    p[j] = attention.Scale * Dot(QueryRope(query, attention, h, r), cache[j].AsSpan(latent), dot);
                }

                (_, float sum) = ExpAndSum(p);
                context.AsSpan().Clear();
                for (int j = 0; j < p.Length; j++)
                {
                    MultiplyAdd(p[j], cache[j].AsSpan(0, latent), context);
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

    /// <summary>Row of the pages that holds token <paramref name="token"/> of the sequence of a row of the call.</summary>
    private static int RowOfToken(in LatentPages pages, int row, int token)
    {
        int page = IntRow(pages.Table, pages.Sequences.Ints[row])[token / LatentPages.PageTokens];
        return (page * LatentPages.PageTokens) + (token % LatentPages.PageTokens);
    }

    private static float[] CachedRow(in LatentPages pages, int row)
    {
        if (pages.Rows.DType == DType.Float32)
        {
            return pages.Rows.Row(row).ToArray();
        }

        float[] values = new float[pages.Rows.Columns];
        BFloat16Format.Decode(BFloat16Row(pages.Rows, row), values);
        return values;
    }
}
