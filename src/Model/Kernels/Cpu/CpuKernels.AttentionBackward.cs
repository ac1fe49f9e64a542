using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Cpu;

/// <content>Gradient of attention, with the probabilities recomputed from the kept log-sum-exp.</content>
public sealed unsafe partial class CpuKernels
{
    /// <inheritdoc/>
    /// <remarks>One part for each sequence and head; within it blocks of 64 queries in rising order meet blocks of 256
    /// keys, so every sum has one order. The shared rope key's gradient is kept per head and then added in head order.
    /// </remarks>
    public void AttentionBackward(
        Tensor gradOutput, Tensor query, Tensor keyValue, Tensor keyRope, Tensor output, Tensor logSumExp,
        Tensor gradQuery, Tensor gradKeyValue, Tensor gradKeyRope, in AttentionShape attention)
    {
        KernelChecks.AttentionBackward(
            gradOutput, query, keyValue, keyRope, output, logSumExp,
            gradQuery, gradKeyValue, gradKeyRope, attention);
        if (attention.Operand == DType.BFloat16)
        {
            gradOutput = Rounded(gradOutput, ScratchUse.RoundedGradient);
            query = Rounded(query, ScratchUse.RoundedQuery);
            keyValue = Rounded(keyValue, ScratchUse.RoundedKeyValue);
            keyRope = Rounded(keyRope, ScratchUse.RoundedKeyRope);
        }

        long shares = (long)attention.Heads * query.Rows * attention.RopeDim;
        AttentionGradients g = new(
            gradOutput, query, keyValue, keyRope, output, logSumExp, gradQuery, gradKeyValue,
            Scratch.Current.Floats(ScratchUse.Partials, Math.Max(1, shares)), attention);
        int parts = (attention.SequenceStarts.Length - 1) * attention.Heads;
        switch (_isa)
        {
            case Isa.Avx512:
                For(parts, 16 * query.Count, new AttentionBackwardLoop<MicroKernel512>(g));
                break;
            case Isa.Avx2:
                For(parts, 16 * query.Count, new AttentionBackwardLoop<MicroKernel256>(g));
                break;
            default:
                For(parts, 16 * query.Count, new AttentionBackwardLoop<MicroKernel128>(g));
                break;
        }

        int rows = RowsOfPart(attention.Heads * attention.RopeDim);
        For(Divide(gradKeyRope.Rows, rows), shares, new KeyRopeSumLoop(g.KeyRopeShares, attention.Heads, gradKeyRope, rows));
    }

    /// <summary>Buffers of a backward call.</summary>
    private readonly struct AttentionGradients(
        Tensor gradOutput, Tensor query, Tensor keyValue, Tensor keyRope, Tensor output, Tensor logSumExp,
        Tensor gradQuery, Tensor gradKeyValue, float* keyRopeShares, AttentionShape shape)
    {
        public readonly Tensor GradOutput = gradOutput;
        public readonly Tensor Query = query;
        public readonly Tensor KeyValue = keyValue;
        public readonly Tensor KeyRope = keyRope;
        public readonly Tensor Output = output;
        public readonly Tensor LogSumExp = logSumExp;
        public readonly Tensor GradQuery = gradQuery;
        public readonly Tensor GradKeyValue = gradKeyValue;
        public readonly float* KeyRopeShares = keyRopeShares;
        public readonly AttentionShape Shape = shape;
    }

    private readonly struct AttentionBackwardLoop<TKernel>(AttentionGradients g) : ILoop
        where TKernel : struct, IMicroKernel
    {
        public void Run(int index)
        {
            AttentionShape shape = g.Shape;
            int head = index % shape.Heads;
            int start = shape.SequenceStarts[index / shape.Heads];
            int tokens = shape.SequenceStarts[(index / shape.Heads) + 1] - start;
            int perKey = shape.NopeDim + shape.ValueDim;
            for (int t = start; t < start + tokens; t++)
            {
                new Span<float>(RowAddress(g.GradKeyValue, t) + (head * perKey), perKey).Clear();
                new Span<float>(KeyRopeShare(head, t), shape.RopeDim).Clear();
            }

            for (int first = 0; first < tokens; first += QueryBlock)
            {
                Block(head, start, first, Math.Min(QueryBlock, tokens - first));
            }
        }

        private float* KeyRopeShare(int head, int token) =>
            g.KeyRopeShares + ((((nint)head * g.Query.Rows) + token) * g.Shape.RopeDim);

        private void Block(int head, int start, int first, int rows)
        {
            AttentionShape shape = g.Shape;
            (int nope, int rope, int value) = (shape.NopeDim, shape.RopeDim, shape.ValueDim);
            Scratch scratch = Scratch.Current;
            float* p = scratch.Floats(ScratchUse.Scores, QueryBlock * KeyBlock);
            float* ds = scratch.Floats(ScratchUse.ScoreGradients, QueryBlock * KeyBlock);
            float* delta = scratch.Floats(ScratchUse.RowStatistics, 2 * QueryBlock);

            float* q = RowAddress(g.Query, start + first) + (head * (nope + rope));
            float* gq = RowAddress(g.GradQuery, start + first) + (head * (nope + rope));
            float* go = RowAddress(g.GradOutput, start + first) + (head * value);
            float* o = RowAddress(g.Output, start + first) + (head * value);
            float* lse = RowAddress(g.LogSumExp, head) + start + first;
            RowDots(go, g.GradOutput.RowStride, o, g.Output.RowStride, rows, value, delta);
            int end = first + rows;
            for (int key = 0; key < end; key += KeyBlock)
            {
                int keys = Math.Min(KeyBlock, end - key);
                float* k = RowAddress(g.KeyValue, start + key) + (head * (nope + value));
                float* r = RowAddress(g.KeyRope, start + key);
                float* gk = RowAddress(g.GradKeyValue, start + key) + (head * (nope + value));
                float* gr = KeyRopeShare(head, start + key);
                (int qs, int ks, int rs) = (g.Query.RowStride, g.KeyValue.RowStride, g.KeyRope.RowStride);
                (int gos, int gks, int gqs) = (g.GradOutput.RowStride, g.GradKeyValue.RowStride, g.GradQuery.RowStride);

                int diagonal = first - key;
                CausalSkip skip = CausalSkip.FutureColumns;
                Run<TKernel>(Rows(q, qs, k, ks, true, p, KeyBlock), rows, keys, nope, false, skip, diagonal);
                Run<TKernel>(Rows(q + nope, qs, r, rs, true, p, KeyBlock), rows, keys, rope, true, skip, diagonal);
                Run<TKernel>(Rows(go, gos, k + nope, ks, true, ds, KeyBlock), rows, keys, value, false, skip, diagonal);
                for (int i = 0; i < rows; i++)
                {
                    ScoreGradients(
                        p + (i * KeyBlock), ds + (i * KeyBlock), Math.Min(keys, first + i + 1 - key), keys,
                        shape, lse[i], delta[i]);
                }

                skip = CausalSkip.PastQueries;
                Run<TKernel>(Columns(p, go, gos, gk + nope, gks), keys, value, rows, true, skip, diagonal);
                Run<TKernel>(Columns(ds, q, qs, gk, gks), keys, nope, rows, true, skip, diagonal);
                Run<TKernel>(Columns(ds, q + nope, qs, gr, rope), keys, rope, rows, true, skip, diagonal);
                skip = CausalSkip.FutureKeys;
                Run<TKernel>(Rows(ds, KeyBlock, k, ks, false, gq, gqs), rows, nope, keys, key > 0, skip, diagonal);
                Run<TKernel>(
                    Rows(ds, KeyBlock, r, rs, false, gq + nope, gqs), rows, rope, keys, key > 0, skip, diagonal);
            }
        }

        /// <summary>
        /// delta = g . output, which is the sum over keys of p dp: the row term of the softmax Jacobian. Chains in
        /// rising order as in dp, so that dp - delta is exactly 0 where a query sees one key; four rows at a time,
        /// since one chain waits for itself.
        /// </summary>
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private static void RowDots(float* a, nint aStride, float* b, nint bStride, int rows, int count, float* dots)
        {
            int i = 0;
            for (; i + 4 <= rows; i += 4, a += 4 * aStride, b += 4 * bStride)
            {
                (float s0, float s1, float s2, float s3) = (0, 0, 0, 0);
                for (int k = 0; k < count; k++)
                {
                    s0 = MathF.FusedMultiplyAdd(a[k], b[k], s0);
                    s1 = MathF.FusedMultiplyAdd(a[aStride + k], b[bStride + k], s1);
                    s2 = MathF.FusedMultiplyAdd(a[(2 * aStride) + k], b[(2 * bStride) + k], s2);
                    s3 = MathF.FusedMultiplyAdd(a[(3 * aStride) + k], b[(3 * bStride) + k], s3);
                }

                dots[i] = s0;
                dots[i + 1] = s1;
                dots[i + 2] = s2;
                dots[i + 3] = s3;
            }

            for (; i < rows; i++, a += aStride, b += bStride)
            {
                float sum = 0;
                for (int k = 0; k < count; k++)
                {
                    sum = MathF.FusedMultiplyAdd(a[k], b[k], sum);
                }

                dots[i] = sum;
            }
        }

        /// <summary>C += A^T B with A a block of scores.</summary>
        private static Product Columns(float* a, float* b, int bStride, float* c, int cStride)
        {
            Product p = Rows(a, KeyBlock, b, bStride, false, c, cStride);
            p.AByColumn = true;
            return p;
        }

        /// <summary>p = exp(scale * score - lse); ds = p (dp - delta) scale; both zero past the diagonal, and rounded,
        /// ds before it is scaled, where the operands are bfloat16.</summary>
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private static void ScoreGradients(
            float* p, float* ds, int seen, int keys, in AttentionShape shape, float logSumExp, float delta)
        {
            Vector512<float> factor = Vector512.Create(shape.Scale);
            Vector512<float> shift = Vector512.Create(logSumExp);
            Vector512<float> mean = Vector512.Create(delta);
            for (int j = 0; j < seen; j += VectorMath.Width)
            {
                // The block's rows are longer than any multiple of 16 below them: whole vectors, cut afterwards.
                Vector512<float> e = VectorMath.Exp((Vector512.Load(p + j) * factor) - shift);
                Vector512<float> d = e * (Vector512.Load(ds + j) - mean);
                if (shape.Operand == DType.BFloat16)
                {
                    (e, d) = (BFloat16.Round(e), BFloat16.Round(d));
                }

                e.Store(p + j);
                (d * factor).Store(ds + j);
            }

            new Span<float>(p + seen, keys - seen).Clear();
            new Span<float>(ds + seen, keys - seen).Clear();
        }
    }

    private readonly struct KeyRopeSumLoop(float* shares, int heads, Tensor gradKeyRope, int part) : ILoop
    {
        public void Run(int index)
        {
            int rope = gradKeyRope.Columns;
            int end = Math.Min(gradKeyRope.Rows, (index + 1) * part);
            for (int t = index * part; t < end; t++)
            {
                float* sum = RowAddress(gradKeyRope, t);
                for (int d = 0; d < rope; d += VectorMath.Width)
                {
                    int left = rope - d;
                    Vector512<float> s = default;
                    for (int h = 0; h < heads; h++)
                    {
                        s += VectorMath.Load(shares + ((((nint)h * gradKeyRope.Rows) + t) * rope) + d, left);
                    }

                    VectorMath.Store(s, sum + d, left);
                }
            }
        }
    }
}
