using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Cpu;

/// <content>Causal attention in its expanded form, flash style.</content>
public sealed unsafe partial class CpuKernels
{
    /// <summary>Query rows of a part.</summary>
    private const int QueryBlock = 64;

    /// <summary>Keys whose scores are held at once: 64 rows of them fill 64 KiB.</summary>
    private const int KeyBlock = 256;

    /// <inheritdoc/>
    /// <remarks>One part for each sequence, head and block of 64 queries; keys pass in blocks of 256 with running
    /// maximum and sum. Nothing of size T x T is stored.</remarks>
    public void Attention(
        Tensor query, Tensor keyValue, Tensor keyRope, Tensor output, Tensor logSumExp, in AttentionShape attention)
    {
        KernelChecks.Attention(query, keyValue, keyRope, output, logSumExp, attention);
        if (attention.Operand == DType.BFloat16)
        {
            query = Rounded(query, ScratchUse.RoundedQuery);
            keyValue = Rounded(keyValue, ScratchUse.RoundedKeyValue);
            keyRope = Rounded(keyRope, ScratchUse.RoundedKeyRope);
        }

        switch (_isa)
        {
            case Isa.Avx512:
                Attention(new AttentionLoop<MicroKernel512>(query, keyValue, keyRope, output, logSumExp, attention));
                break;
            case Isa.Avx2:
                Attention(new AttentionLoop<MicroKernel256>(query, keyValue, keyRope, output, logSumExp, attention));
                break;
            default:
                Attention(new AttentionLoop<MicroKernel128>(query, keyValue, keyRope, output, logSumExp, attention));
                break;
        }
    }

    /// <summary>A copy rounded to bfloat16, in the calling thread's scratch memory.</summary>
    private Tensor Rounded(Tensor source, ScratchUse use)
    {
        float* room = Scratch.Current.Floats(use, Math.Max(1, source.Count));
        Tensor copy = new((nint)room, new TensorShape(source.Rows, source.Columns));
        RoundToBFloat16(source, copy);
        return copy;
    }

    /// <summary>Rounds <paramref name="count"/> values to bfloat16 where they are.</summary>
    private static void RoundInPlace(float* values, int count)
    {
        for (int i = 0; i < count; i += VectorMath.Width)
        {
            VectorMath.Store(BFloat16.Round(VectorMath.Load(values + i, count - i)), values + i, count - i);
        }
    }

    private void Attention<TKernel>(in AttentionLoop<TKernel> loop) where TKernel : struct, IMicroKernel =>
        For(loop.Parts, loop.Work, loop);

    /// <summary>C (+)= A B with A by row and B by row or by column.</summary>
    private static Product Rows(float* a, int aStride, float* b, int bStride, bool bByColumn, float* c, int cStride)
    {
        Product p = default;
        p.A = a;
        p.AStride = aStride;
        p.B = b;
        p.BStride = bStride;
        p.BByColumn = bByColumn;
        p.C = c;
        p.CStride = cStride;
        return p;
    }

    private static void Run<TKernel>(
        Product p, int m, int n, int k, bool accumulate, CausalSkip skip, int diagonal)
        where TKernel : struct, IMicroKernel
    {
        // The few-rows product knows no diagonal, and has nothing to gain from one.
        (p.Skip, p.Diagonal) = (m > MatrixProduct<TKernel>.FewRows ? skip : CausalSkip.None, diagonal);
        (p.M, p.N, p.K, p.Accumulate) = (m, n, k, accumulate);
        MatrixProduct<TKernel>.Run(p);
    }

    private readonly struct AttentionLoop<TKernel>(
        Tensor query, Tensor keyValue, Tensor keyRope, Tensor output, Tensor logSumExp, AttentionShape shape) : ILoop
        where TKernel : struct, IMicroKernel
    {
        public int Parts
        {
            get
            {
                int blocks = 0;
                for (int s = 0; s + 1 < shape.SequenceStarts.Length; s++)
                {
                    blocks += Divide(shape.SequenceStarts[s + 1] - shape.SequenceStarts[s], QueryBlock);
                }

                return blocks * shape.Heads;
            }
        }

        public long Work => 8 * query.Count;

        public void Run(int index)
        {
            int head = index % shape.Heads;
            int block = index / shape.Heads;
            int sequence = 0;
            while (true)
            {
                int blocks = Divide(shape.SequenceStarts[sequence + 1] - shape.SequenceStarts[sequence], QueryBlock);
                if (block < blocks)
                {
                    // The longest first, so that the last part to end is a short one.
                    Block(sequence, head, blocks - 1 - block);
                    return;
                }

                block -= blocks;
                sequence++;
            }
        }

        private void Block(int sequence, int head, int block)
        {
            (int nope, int rope, int value) = (shape.NopeDim, shape.RopeDim, shape.ValueDim);
            int start = shape.SequenceStarts[sequence];
            int first = block * QueryBlock;
            int rows = Math.Min(QueryBlock, shape.SequenceStarts[sequence + 1] - start - first);
            float* scores = Scratch.Current.Floats(ScratchUse.Scores, QueryBlock * KeyBlock);
            float* maxima = Scratch.Current.Floats(ScratchUse.RowStatistics, 2 * QueryBlock);
            float* sums = maxima + QueryBlock;

            float* q = RowAddress(query, start + first) + (head * (nope + rope));
            float* context = RowAddress(output, start + first) + (head * value);
            int end = first + rows;
            for (int key = 0; key < end; key += KeyBlock)
            {
                int keys = Math.Min(KeyBlock, end - key);
                float* k = RowAddress(keyValue, start + key) + (head * (nope + value));
                float* r = RowAddress(keyRope, start + key);
                Run<TKernel>(
                    Rows(q, query.RowStride, k, keyValue.RowStride, true, scores, KeyBlock),
                    rows, keys, nope, false, CausalSkip.FutureColumns, first - key);
                Run<TKernel>(
                    Rows(q + nope, query.RowStride, r, keyRope.RowStride, true, scores, KeyBlock),
                    rows, keys, rope, true, CausalSkip.FutureColumns, first - key);
                for (int i = 0; i < rows; i++)
                {
                    SoftmaxRow(
                        scores + (i * KeyBlock), Math.Min(keys, first + i + 1 - key), keys, key == 0,
                        ref maxima[i], ref sums[i], context + ((nint)i * output.RowStride), value);
                    if (shape.Operand == DType.BFloat16)
                    {
                        RoundInPlace(scores + (i * KeyBlock), keys);
                    }
                }

                Run<TKernel>(
                    Rows(scores, KeyBlock, k + nope, keyValue.RowStride, false, context, output.RowStride),
                    rows, value, keys, key > 0, CausalSkip.FutureKeys, first - key);
            }

            for (int i = 0; i < rows; i++)
            {
                VectorMath.Scale(context + ((nint)i * output.RowStride), value, 1 / sums[i]);
                RowAddress(logSumExp, head)[start + first + i] = maxima[i] + MathF.Log(sums[i]);
            }
        }

        /// <summary>Scores of one row to exp(scale * score - maximum), zero past the diagonal; what came before is
        /// scaled to the new maximum.</summary>
        private void SoftmaxRow(
            float* row, int seen, int keys, bool initial, ref float maximum, ref float sum, float* context, int value)
        {
            float max = shape.Scale * VectorMath.Max(row, seen);
            if (!initial)
            {
                max = MathF.Max(max, maximum);
            }

            float added = VectorMath.ExpSum(row, seen, shape.Scale, max);
            new Span<float>(row + seen, keys - seen).Clear();
            if (initial)
            {
                sum = added;
            }
            else if (max == maximum)
            {
                sum += added;
            }
            else
            {
                float factor = VectorMath.Exp(maximum - max);
                sum = MathF.FusedMultiplyAdd(sum, factor, added);
                VectorMath.Scale(context, value, factor);
            }

            maximum = max;
        }
    }
}
