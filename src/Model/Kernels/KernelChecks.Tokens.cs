using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels;

/// <content>Attention, routing, row and loss kernels.</content>
internal static unsafe partial class KernelChecks
{
    internal static void RotaryEmbedding(
        Tensor data, int heads, int offset, Tensor table, Tensor positions, IIndexChecks? values = null)
    {
        Matrix(data, data.Rows, data.Columns);
        Matrix(table, table.Rows, table.Columns);
        Ints(positions, data.Rows);
        if (heads < 1 || data.Columns % heads != 0 || table.Columns % 2 != 0 || offset < 0
            || offset + table.Columns > data.Columns / heads)
        {
            throw new ArgumentException(
                $"data: expected {heads} heads with {table.Columns} paired columns from {offset} on, got {data}",
                nameof(data));
        }

        RowNumbers(positions, data.Rows, table.Rows, values);
    }

    internal static void Attention(
        Tensor query, Tensor keyValue, Tensor keyRope, Tensor output, Tensor logSumExp, in AttentionShape attention)
    {
        int tokens = query.Rows;
        Sizes(attention);
        Matrix(query, tokens, attention.Heads * (attention.NopeDim + attention.RopeDim));
        Matrix(keyValue, tokens, attention.Heads * (attention.NopeDim + attention.ValueDim));
        Matrix(keyRope, tokens, attention.RopeDim);
        Matrix(output, tokens, attention.Heads * attention.ValueDim);
        Matrix(logSumExp, attention.Heads, tokens);
        Starts(attention.SequenceStarts, tokens);
    }

    internal static void AttentionBackward(
        Tensor gradOutput, Tensor query, Tensor keyValue, Tensor keyRope, Tensor output, Tensor logSumExp,
        Tensor gradQuery, Tensor gradKeyValue, Tensor gradKeyRope, in AttentionShape attention)
    {
        Attention(query, keyValue, keyRope, output, logSumExp, attention);
        Matrix(gradOutput, output.Rows, output.Columns);
        Matrix(gradQuery, query.Rows, query.Columns);
        Matrix(gradKeyValue, keyValue.Rows, keyValue.Columns);
        Matrix(gradKeyRope, keyRope.Rows, keyRope.Columns);
    }

    internal static void StoreLatents(
        Tensor latent, Tensor keyRope, in LatentPages pages, IIndexChecks? values = null)
    {
        Matrix(latent, latent.Rows, latent.Columns);
        Matrix(keyRope, latent.Rows, keyRope.Columns);
        Pages(pages, latent.Rows, latent.Columns + keyRope.Columns, values);
    }

    internal static void AbsorbedAttention(
        Tensor query, Tensor upProjection, in LatentPages pages, Tensor output, in AttentionShape attention,
        IIndexChecks? values = null)
    {
        Sizes(attention);
        Matrix(query, query.Rows, attention.Heads * (attention.NopeDim + attention.RopeDim));
        Matrix(upProjection, attention.Heads * (attention.NopeDim + attention.ValueDim), upProjection.Columns);
        Matrix(output, query.Rows, attention.Heads * attention.ValueDim);
        Pages(pages, query.Rows, upProjection.Columns + attention.RopeDim, values);
    }

    private static void Pages(in LatentPages pages, int rows, int width, IIndexChecks? values)
    {
        Tensor cache = pages.Rows;
        Matrix(cache, cache.Rows, width, cache.DType == DType.BFloat16 ? DType.BFloat16 : DType.Float32, "pages");
        if (cache.Rows % LatentPages.PageTokens != 0)
        {
            throw new ArgumentException(
                $"pages: expected a multiple of {LatentPages.PageTokens} rows, got {cache}", nameof(pages));
        }

        int entries = checked((int)pages.Table.Count);
        RowNumbers(pages.Table, entries, cache.Rows / LatentPages.PageTokens, values, name: "table");
        RowNumbers(pages.Sequences, rows, pages.Table.Rows, values, name: "sequences");
        RowNumbers(
            pages.Positions, rows, checked(pages.Table.Columns * LatentPages.PageTokens), values, name: "positions");
    }

    private static void Sizes(in AttentionShape attention)
    {
        if (attention.Heads < 1 || attention.NopeDim < 0 || attention.RopeDim < 0 || attention.ValueDim < 1)
        {
            throw new ArgumentException($"attention: expected positive sizes, got {attention}", nameof(attention));
        }

        if (attention.Operand is not (DType.Float32 or DType.BFloat16))
        {
            throw new ArgumentException(
                $"attention: expected operands in Float32 or BFloat16, got {attention.Operand}", nameof(attention));
        }
    }

    internal static void Route(
        Tensor logits, Tensor bias, Tensor scores, Tensor indices, Tensor weights, in RoutingShape routing)
    {
        Sizes(routing);
        Matrix(logits, logits.Rows, routing.Experts);
        if (!bias.IsEmpty)
        {
            Vector(bias, routing.Experts);
        }

        Matrix(scores, logits.Rows, routing.Experts);
        Matrix(indices, logits.Rows, routing.TopK, DType.Int32, nameof(indices));
        Matrix(weights, logits.Rows, routing.TopK);
    }

    internal static void RouteBackward(
        Tensor gradWeights, Tensor scores, Tensor indices, Tensor balanceGradient, Tensor sequenceOfToken,
        Tensor gradLogits, in RoutingShape routing, IIndexChecks? values = null)
    {
        int tokens = scores.Rows;
        Sizes(routing);
        Matrix(gradWeights, tokens, routing.TopK);
        Matrix(scores, tokens, routing.Experts);
        Experts(indices, tokens, routing.TopK, routing.Experts, values);
        Matrix(gradLogits, tokens, routing.Experts);
        if (balanceGradient.IsEmpty)
        {
            return;
        }

        Matrix(balanceGradient, balanceGradient.Rows, routing.Experts);
        if (!sequenceOfToken.IsEmpty)
        {
            RowNumbers(sequenceOfToken, tokens, balanceGradient.Rows, values);
        }
        else if (balanceGradient.Rows != 1)
        {
            throw new ArgumentException(
                $"sequenceOfToken: expected Int32[{tokens}] beside balanceGradient {balanceGradient}, got nothing",
                nameof(sequenceOfToken));
        }
    }

    internal static void BalanceStatistics(
        Tensor scores, Tensor indices, ReadOnlySpan<int> sequenceStarts, Tensor frequency, Tensor meanScore,
        IIndexChecks? values = null)
    {
        Matrix(scores, scores.Rows, scores.Columns);
        Experts(indices, scores.Rows, indices.Columns, scores.Columns, values);
        Starts(sequenceStarts, scores.Rows);
        Matrix(frequency, sequenceStarts.Length - 1, scores.Columns);
        Matrix(meanScore, sequenceStarts.Length - 1, scores.Columns);
    }

    private static void Experts(Tensor indices, int tokens, int topK, int experts, IIndexChecks? values)
    {
        Matrix(indices, tokens, topK, DType.Int32, nameof(indices));
        (values ?? HostIndexChecks.Instance).Experts(indices, experts);
    }

    private static void Sizes(in RoutingShape routing)
    {
        bool groupsFit = routing.Groups >= 1 && routing.Experts % routing.Groups == 0
            && routing.KeptGroups >= 1 && routing.KeptGroups <= routing.Groups;
        if (routing.Experts < 1 || routing.TopK < 1 || !groupsFit
            || routing.TopK > routing.Experts / routing.Groups * routing.KeptGroups
            || (routing.Groups > 1 && routing.GroupByTopTwo && routing.Experts / routing.Groups < 2))
        {
            throw new ArgumentException(
                "routing: expected equal groups whose kept experts hold the top-k (and two experts a group where the"
                + $" two largest are added), got {routing}",
                nameof(routing));
        }
    }

    internal static void SumRows(
        Tensor source, Tensor rows, Tensor scale, Tensor starts, Tensor output, IIndexChecks? values = null)
    {
        int count = checked((int)rows.Count);
        Matrix(source, source.Rows, source.Columns);
        RowNumbers(rows, count, source.Rows, values);
        if (!scale.IsEmpty)
        {
            Vector(scale, count);
        }

        Matrix(output, output.Rows, source.Columns);
        Ints(starts, output.Rows + 1);
        (values ?? HostIndexChecks.Instance).Starts(starts, count, nameof(starts));
    }

    internal static void GatherRows(
        Tensor source, Tensor rows, Tensor scale, Tensor output, IIndexChecks? values = null)
    {
        Matrix(source, source.Rows, source.Columns);
        Matrix(output, output.Rows, source.Columns);
        RowNumbers(rows, output.Rows, source.Rows, values);
        if (!scale.IsEmpty)
        {
            Vector(scale, output.Rows);
        }
    }

    internal static void DotRows(
        Tensor left, Tensor leftRows, Tensor right, Tensor rightRows, Tensor output, IIndexChecks? values = null)
    {
        int count = checked((int)output.Count);
        Vector(output, count);
        Matrix(left, left.Rows, left.Columns);
        Matrix(right, right.Rows, left.Columns);
        RowNumbers(leftRows, count, left.Rows, values);
        RowNumbers(rightRows, count, right.Rows, values);
    }

    internal static void EmbeddingBackward(Tensor gradOutput, Tensor ids, Tensor gradTable, IIndexChecks? values = null)
    {
        Matrix(gradTable, gradTable.Rows, gradTable.Columns);
        Matrix(gradOutput, gradOutput.Rows, gradTable.Columns);
        RowNumbers(ids, gradOutput.Rows, gradTable.Rows, values, allowNegative: true);
    }

    internal static void CrossEntropy(Tensor logits, Tensor targets, Tensor losses, IIndexChecks? values = null)
    {
        Matrix(logits, logits.Rows, logits.Columns);
        RowNumbers(targets, logits.Rows, logits.Columns, values, allowNegative: true);
        Vector(losses, logits.Rows);
    }
}
