using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Cpu;

/// <content>Attention over the pages of the latent cache, for decoding.</content>
public sealed unsafe partial class CpuKernels
{
    /// <inheritdoc/>
    public void StoreLatents(Tensor latent, Tensor keyRope, in LatentPages pages)
    {
        KernelChecks.StoreLatents(latent, keyRope, pages);
        For(latent.Rows, (long)latent.Rows * pages.Rows.Columns, new StoreLatentsLoop(latent, keyRope, pages));
    }

    /// <inheritdoc/>
    /// <remarks>
    /// All heads of a sequence read its cache together: it is one product of R * H rows with the cache, and one back. A
    /// row's bits depend neither on the rows that come with it nor on where its pages lie. Pages that follow each other are
    /// read in place; others are brought together first, as are those in bfloat16.
    /// </remarks>
    public void AbsorbedAttention(
        Tensor query, Tensor upProjection, in LatentPages pages, Tensor output, in AttentionShape attention)
    {
        KernelChecks.AbsorbedAttention(query, upProjection, pages, output, attention);
        (int heads, int nope, int rope, int value) =
            (attention.Heads, attention.NopeDim, attention.RopeDim, attention.ValueDim);
        int latent = upProjection.Columns;
        int width = latent + rope;
        int rows = query.Rows;
        if (rows == 0)
        {
            return;
        }

        Scratch scratch = Scratch.Current;
        Product* products = (Product*)scratch.Bytes(ScratchUse.Products, heads * sizeof(Product));
        float* q = scratch.Floats(ScratchUse.AbsorbedQuery, (long)rows * heads * width);
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

        for (int first = 0; first < rows;)
        {
            int count = TokensInLine(pages, first, rows);
            AttendToCache(
                pages, first, count, q + ((nint)first * heads * width), context + ((nint)first * heads * latent), attention);
            first += count;
        }

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

    /// <summary>Rows from <paramref name="first"/> on that are tokens of one sequence, one behind the other.</summary>
    private static int TokensInLine(in LatentPages pages, int first, int rows)
    {
        int count = 1;
        while (first + count < rows && pages.Sequences.Ints[first + count] == pages.Sequences.Ints[first]
            && pages.Positions.Ints[first + count] == pages.Positions.Ints[first] + count)
        {
            count++;
        }

        return count;
    }

    /// <summary>context = softmax(q cache^T) cache, of consecutive tokens of one sequence.</summary>
    private void AttendToCache(
        in LatentPages pages, int first, int rows, float* q, float* context, in AttentionShape attention)
    {
        int heads = attention.Heads;
        int width = pages.Rows.Columns;
        int latent = width - attention.RopeDim;
        int firstPosition = pages.Positions.Ints[first];
        int keys = firstPosition + rows;
        float* scores = Scratch.Current.Floats(ScratchUse.Partials, (long)rows * heads * keys);
        (nint cache, int stride) = CacheInLine(pages, first, keys);

        Product product = Rows(q, width, (float*)cache, stride, true, scores, keys);
        (product.M, product.N, product.K) = (rows * heads, keys, width);
        Launch(&product, 1);

        For(rows * heads, 8L * rows * heads * keys, new AbsorbedSoftmax(scores, keys, firstPosition, heads, attention.Scale));

        product = Rows(scores, keys, (float*)cache, stride, false, context, latent);
        (product.M, product.N, product.K) = (rows * heads, latent, keys);
        Launch(&product, 1);
    }

    /// <summary>The first <paramref name="keys"/> cached rows of a row's sequence as float32 rows of one stride.</summary>
    private (nint Address, int Stride) CacheInLine(in LatentPages pages, int row, int keys)
    {
        int* table = pages.Table.Ints + ((nint)pages.Sequences.Ints[row] * pages.Table.RowStride);
        int used = (keys + LatentPages.PageTokens - 1) / LatentPages.PageTokens;
        bool inLine = pages.Rows.DType == DType.Float32;
        for (int page = 1; page < used && inLine; page++)
        {
            inLine = table[page] == table[0] + page;
        }

        if (inLine)
        {
            return ((nint)RowAddress(pages.Rows, table[0] * LatentPages.PageTokens), pages.Rows.RowStride);
        }

        int width = pages.Rows.Columns;
        float* room = Scratch.Current.Floats(ScratchUse.CachedLatents, (long)keys * width);
        For(keys, (long)keys * width, new GatherLatentsLoop(pages.Rows, (nint)table, (nint)room));
        return ((nint)room, width);
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

    private readonly struct StoreLatentsLoop(Tensor latent, Tensor keyRope, LatentPages pages) : ILoop
    {
        public void Run(int index)
        {
            int token = pages.Positions.Ints[index];
            int* table = pages.Table.Ints + ((nint)pages.Sequences.Ints[index] * pages.Table.RowStride);
            int row = (table[token / LatentPages.PageTokens] * LatentPages.PageTokens) + (token % LatentPages.PageTokens);
            Store(latent, index, row, 0);
            Store(keyRope, index, row, latent.Columns);
        }

        private void Store(Tensor source, int index, int row, int column)
        {
            var values = new ReadOnlySpan<float>(RowAddress(source, index), source.Columns);
            nint at = ((nint)row * pages.Rows.RowStride) + column;
            if (pages.Rows.DType == DType.BFloat16)
            {
                Precision.BFloat16Format.Encode(values, new((ushort*)pages.Rows.Address + at, values.Length));
            }
            else
            {
                values.CopyTo(new(pages.Rows.Floats + at, values.Length));
            }
        }
    }

    private readonly struct GatherLatentsLoop(Tensor rows, nint table, nint room) : ILoop
    {
        public void Run(int index)
        {
            int row = (((int*)table)[index / LatentPages.PageTokens] * LatentPages.PageTokens)
                + (index % LatentPages.PageTokens);
            var to = new Span<float>((float*)room + ((nint)index * rows.Columns), rows.Columns);
            if (rows.DType == DType.BFloat16)
            {
                Precision.BFloat16Format.Decode(
                    new((ushort*)rows.Address + ((nint)row * rows.RowStride), rows.Columns), to);
            }
            else
            {
                new ReadOnlySpan<float>(RowAddress(rows, row), rows.Columns).CopyTo(to);
            }
        }
    }
}
