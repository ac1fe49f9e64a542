using System.Runtime.Intrinsics;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Cpu;

/// <content>The gate (report eq. 12-16), its gradient, and the factors of the balance loss.</content>
public sealed unsafe partial class CpuKernels
{
    /// <summary>Keeps the division by the sum of the chosen scores finite.</summary>
    private const float WeightSumEpsilon = 1e-20f;

    private const int TokensOfPart = 64;

    /// <inheritdoc/>
    public void Route(
        Tensor logits, Tensor bias, Tensor scores, Tensor indices, Tensor weights, in RoutingShape routing)
    {
        KernelChecks.Route(logits, bias, scores, indices, weights, routing);
        For(
            Divide(logits.Rows, TokensOfPart), 8 * logits.Count,
            new RouteLoop(logits, bias, scores, indices, weights, routing));
    }

    /// <inheritdoc/>
    public void RouteBackward(
        Tensor gradWeights, Tensor scores, Tensor indices, Tensor balanceGradient, Tensor sequenceOfToken,
        Tensor gradLogits, in RoutingShape routing)
    {
        KernelChecks.RouteBackward(
            gradWeights, scores, indices, balanceGradient, sequenceOfToken, gradLogits, routing);
        For(
            Divide(scores.Rows, TokensOfPart), 4 * scores.Count,
            new RouteBackwardLoop(
                gradWeights, scores, indices, balanceGradient, sequenceOfToken, gradLogits, routing));
    }

    /// <inheritdoc/>
    public void BalanceStatistics(
        Tensor scores, Tensor indices, ReadOnlySpan<int> sequenceStarts, Tensor frequency, Tensor meanScore)
    {
        KernelChecks.BalanceStatistics(scores, indices, sequenceStarts, frequency, meanScore);
        fixed (int* starts = sequenceStarts)
        {
            For(frequency.Rows, 2 * scores.Count, new BalanceLoop(scores, indices, starts, frequency, meanScore));
        }
    }

    private static float WeightSum(float* scores, int* chosen, in RoutingShape routing)
    {
        float sum = 0;
        for (int k = 0; k < routing.TopK; k++)
        {
            sum += scores[chosen[k]];
        }

        return routing.Normalize ? sum + WeightSumEpsilon : 1;
    }

    private readonly struct RouteLoop(
        Tensor logits, Tensor bias, Tensor scores, Tensor indices, Tensor weights, RoutingShape routing) : ILoop
    {
        public void Run(int index)
        {
            int experts = routing.Experts;
            float* biased = Scratch.Current.Floats(ScratchUse.Gate, experts + routing.Groups + routing.KeptGroups);
            int end = Math.Min(logits.Rows, (index + 1) * TokensOfPart);
            for (int t = index * TokensOfPart; t < end; t++)
            {
                float* s = RowAddress(scores, t);
                int* chosen = indices.Ints + ((nint)t * indices.RowStride);
                float* w = RowAddress(weights, t);
                Score(RowAddress(logits, t), s);
                for (int e = 0; e < experts; e++)
                {
                    biased[e] = bias.IsEmpty ? s[e] : s[e] + bias.Floats[e];
                }

                if (routing.Groups > 1)
                {
                    MaskGroups(biased, biased + experts, (int*)(biased + experts + routing.Groups));
                }

                ChooseLargest(biased, experts, chosen, routing.TopK);
                float sum = WeightSum(s, chosen, routing);
                for (int k = 0; k < routing.TopK; k++)
                {
                    w[k] = s[chosen[k]] / sum * routing.ScalingFactor;
                }
            }
        }

        private void Score(float* x, float* s)
        {
            int experts = routing.Experts;
            if (routing.Softmax)
            {
                new ReadOnlySpan<float>(x, experts).CopyTo(new(s, experts));
                float sum = VectorMath.ExpSum(s, experts, 1, VectorMath.Max(s, experts));
                VectorMath.Scale(s, experts, 1 / sum);
                return;
            }

            for (int e = 0; e < experts; e += VectorMath.Width)
            {
                int left = experts - e;
                VectorMath.Store(VectorMath.Sigmoid(VectorMath.Load(x + e, left)), s + e, left);
            }
        }

        /// <summary>Sets the scores of all experts outside the kept groups to -inf.</summary>
        private void MaskGroups(float* biased, float* groupScores, int* kept)
        {
            int size = routing.Experts / routing.Groups;
            for (int group = 0; group < routing.Groups; group++)
            {
                float first = float.NegativeInfinity;
                float second = float.NegativeInfinity;
                for (int e = group * size; e < (group + 1) * size; e++)
                {
                    float score = biased[e];
                    if (score > first)
                    {
                        (first, second) = (score, first);
                    }
                    else if (score > second)
                    {
                        second = score;
                    }
                }

                groupScores[group] = routing.GroupByTopTwo ? first + second : first;
            }

            ChooseLargest(groupScores, routing.Groups, kept, routing.KeptGroups);
            for (int group = 0, next = 0; group < routing.Groups; group++)
            {
                if (next < routing.KeptGroups && kept[next] == group)
                {
                    next++;
                }
                else
                {
                    new Span<float>(biased + (group * size), size).Fill(float.NegativeInfinity);
                }
            }
        }

        /// <summary>Positions of the largest values in rising order; among equals the lowest. One pass keeps the best
        /// so far, sorted by value.</summary>
        private static void ChooseLargest(float* values, int count, int* chosen, int wanted)
        {
            int held = 0;
            for (int i = 0; i < count; i++)
            {
                float value = values[i];
                if (held == wanted && !(value > values[chosen[held - 1]]))
                {
                    continue;
                }

                int at = held < wanted ? held++ : held - 1;
                for (; at > 0 && value > values[chosen[at - 1]]; at--)
                {
                    chosen[at] = chosen[at - 1];
                }

                chosen[at] = i;
            }

            for (int k = 1; k < wanted; k++)
            {
                int position = chosen[k];
                int at = k;
                for (; at > 0 && chosen[at - 1] > position; at--)
                {
                    chosen[at] = chosen[at - 1];
                }

                chosen[at] = position;
            }
        }
    }

    private readonly struct RouteBackwardLoop(
        Tensor gradWeights, Tensor scores, Tensor indices, Tensor balanceGradient, Tensor sequenceOfToken,
        Tensor gradLogits, RoutingShape routing) : ILoop
    {
        public void Run(int index)
        {
            int experts = routing.Experts;
            float* grad = Scratch.Current.Floats(ScratchUse.Gate, experts);
            int end = Math.Min(scores.Rows, (index + 1) * TokensOfPart);
            for (int t = index * TokensOfPart; t < end; t++)
            {
                float* s = RowAddress(scores, t);
                WeightsBackward(RowAddress(gradWeights, t), s, indices.Ints + ((nint)t * indices.RowStride), grad);
                if (!balanceGradient.IsEmpty)
                {
                    int sequence = sequenceOfToken.IsEmpty ? 0 : sequenceOfToken.Ints[t];
                    AddBalanceGradient(RowAddress(balanceGradient, sequence), s, grad);
                }

                ScoresBackward(s, grad, RowAddress(gradLogits, t));
            }
        }

        /// <summary>w_k = c s_k / S: ds_k = (c g_k - sum over j of c g_j s_j / S) / S.</summary>
        private void WeightsBackward(float* gradWeight, float* s, int* chosen, float* grad)
        {
            float sum = WeightSum(s, chosen, routing);
            float mean = 0;
            for (int k = 0; routing.Normalize && k < routing.TopK; k++)
            {
                mean = MathF.FusedMultiplyAdd(gradWeight[k] * routing.ScalingFactor, s[chosen[k]] / sum, mean);
            }

            new Span<float>(grad, routing.Experts).Clear();
            for (int k = 0; k < routing.TopK; k++)
            {
                grad[chosen[k]] = ((gradWeight[k] * routing.ScalingFactor) - mean) / sum;
            }
        }

        /// <summary>
        /// sn_i = s_i / S with S the sum over all experts: ds_j += (g_j - sum over i of g_i sn_i) / S.
        /// </summary>
        private void AddBalanceGradient(float* gradNormalized, float* s, float* grad)
        {
            int experts = routing.Experts;
            float sum = SumOf(s, experts);
            Vector512<float> mean = Vector512.Create(VectorMath.Dot(gradNormalized, s, experts) / sum);
            Vector512<float> divisor = Vector512.Create(sum);
            for (int e = 0; e < experts; e += VectorMath.Width)
            {
                int left = experts - e;
                Vector512<float> share = (VectorMath.Load(gradNormalized + e, left) - mean) / divisor;
                VectorMath.Store(VectorMath.Load(grad + e, left) + share, grad + e, left);
            }
        }

        /// <summary>Sigmoid: dl = ds s (1 - s). Softmax: dl_i = s_i (ds_i - sum over j of ds_j s_j).</summary>
        private void ScoresBackward(float* s, float* grad, float* gradLogit)
        {
            int experts = routing.Experts;
            Vector512<float> mean = Vector512.Create(routing.Softmax ? VectorMath.Dot(grad, s, experts) : 0);
            for (int e = 0; e < experts; e += VectorMath.Width)
            {
                int left = experts - e;
                Vector512<float> score = VectorMath.Load(s + e, left);
                Vector512<float> g = VectorMath.Load(grad + e, left);
                Vector512<float> result = routing.Softmax
                    ? score * (g - mean)
                    : g * (score * (Vector512<float>.One - score));
                VectorMath.Store(result, gradLogit + e, left);
            }
        }
    }

    private static float SumOf(float* values, int count)
    {
        Vector512<float> sum = default;
        for (int i = 0; i < count; i += VectorMath.Width)
        {
            sum += VectorMath.Load(values + i, count - i);
        }

        return VectorMath.Sum(sum);
    }

    private readonly struct BalanceLoop(
        Tensor scores, Tensor indices, int* starts, Tensor frequency, Tensor meanScore) : ILoop
    {
        public void Run(int index)
        {
            int experts = scores.Columns;
            int topK = indices.Columns;
            int tokens = starts[index + 1] - starts[index];
            float* counts = RowAddress(frequency, index);
            float* means = RowAddress(meanScore, index);
            new Span<float>(counts, experts).Clear();
            new Span<float>(means, experts).Clear();
            for (int t = starts[index]; t < starts[index + 1]; t++)
            {
                int* chosen = indices.Ints + ((nint)t * indices.RowStride);
                for (int k = 0; k < topK; k++)
                {
                    counts[chosen[k]]++;
                }

                float* s = RowAddress(scores, t);
                Vector512<float> sum = Vector512.Create(SumOf(s, experts));
                for (int e = 0; e < experts; e += VectorMath.Width)
                {
                    int left = experts - e;
                    VectorMath.Store(
                        VectorMath.Load(means + e, left) + (VectorMath.Load(s + e, left) / sum), means + e, left);
                }
            }

            // A sequence without tokens keeps its zeros.
            for (int e = 0; e < experts && tokens > 0; e++)
            {
                counts[e] *= experts / ((float)topK * tokens);
                means[e] /= tokens;
            }
        }
    }
}
