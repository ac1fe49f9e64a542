using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Cpu;

/// <content>Attention over the latent cache, for decoding.</content>
public sealed unsafe partial class CpuKernels
{
    /// <inheritdoc/>
    /// <remarks>All heads read the cache together: it is one product of R * H rows with the cache, and one back. A
    /// row's bits do not depend on how many rows come with it.</remarks>
    public void AbsorbedAttention(
        Tensor query, Tensor upProjection, Tensor cache, int firstPosition, Tensor output, in AttentionShape attention)
    {
        KernelChecks.AbsorbedAttention(query, upProjection, cache, firstPosition, output, attention);
        (int heads, int nope, int rope, int value) =
            (attention.Heads, attention.NopeDim, attention.RopeDim, attention.ValueDim);
        int latent = upProjection.Columns;
        int width = latent + rope;
        int rows = query.Rows;
        int keys = firstPosition + rows;
        if (rows == 0)
        {
            return;
        }

        Scratch scratch = Scratch.Current;
        Product* products = (Product*)scratch.Bytes(ScratchUse.Products, heads * sizeof(Product));
        float* q = scratch.Floats(ScratchUse.AbsorbedQuery, (long)rows * heads * width);
        float* scores = scratch.Floats(ScratchUse.Partials, (long)rows * heads * keys);
        float* context = scratch.Floats(ScratchUse.AbsorbedContext, (long)rows * heads * latent);

        // qNope . (Wk c) = (Wk^T qNope) . c: the key projection moves from every cached row to the query.
        for (int h = 0; h < heads; h++)
        {
            ref Product p = ref products[h];
            p = Rows(
                query.Floats + (h * (nope + rope)), query.RowStride,
                RowAddress(upProjection, h * (nope + value)), upProjection.RowStride, false,
                q + ((nint)h * width), heads * width);
            (p.M, p.N, p.K) = (rows, latent, nope);
        }

        Launch(products, heads);
        for (int r = 0; r < rows * heads; r++)
        {
            float* from = RowAddress(query, r / heads) + (r % heads * (nope + rope)) + nope;
            new ReadOnlySpan<float>(from, rope).CopyTo(new(q + ((nint)r * width) + latent, rope));
        }

        Product product = Rows(q, width, cache.Floats, cache.RowStride, true, scores, keys);
        (product.M, product.N, product.K) = (rows * heads, keys, width);
        Launch(&product, 1);

        For(rows * heads, 8L * rows * heads * keys, new AbsorbedSoftmax(scores, keys, firstPosition, heads, attention.Scale));

        product = Rows(scores, keys, cache.Floats, cache.RowStride, false, context, latent);
        (product.M, product.N, product.K) = (rows * heads, latent, keys);
        Launch(&product, 1);

        // sum of p (Wv c) = Wv (sum of p c): the value projection is applied once, to the context.
        for (int h = 0; h < heads; h++)
        {
            ref Product p = ref products[h];
            p = Rows(
                context + ((nint)h * latent), heads * latent,
                RowAddress(upProjection, (h * (nope + value)) + nope), upProjection.RowStride, true,
                output.Floats + (h * value), output.RowStride);
            (p.M, p.N, p.K) = (rows, value, latent);
        }

        Launch(products, heads);
    }

    /// <summary>Softmax of the scores of one query row and head; keys after the query's position get 0.</summary>
    private readonly struct AbsorbedSoftmax(float* scores, int keys, int firstPosition, int heads, float scale) : ILoop
    {
        public void Run(int index)
        {
            float* row = scores + ((nint)index * keys);
            int seen = firstPosition + (index / heads) + 1;
            float sum = VectorMath.ExpSum(row, seen, scale, scale * VectorMath.Max(row, seen));
            VectorMath.Scale(row, seen, 1 / sum);
            new Span<float>(row + seen, keys - seen).Clear();
        }
    }
}
