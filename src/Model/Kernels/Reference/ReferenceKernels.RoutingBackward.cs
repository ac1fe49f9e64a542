using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Reference;

/// <content>Gradient of the gate and the factors of its balance loss.</content>
public sealed unsafe partial class ReferenceKernels
{
    /// <inheritdoc/>
    public void RouteBackward(
        Tensor gradWeights, Tensor scores, Tensor indices, Tensor balanceGradient, Tensor sequenceOfToken,
        Tensor gradLogits, in RoutingShape routing)
    {
        KernelChecks.RouteBackward(
            gradWeights, scores, indices, balanceGradient, sequenceOfToken, gradLogits, routing);
        float[] gradScores = new float[routing.Experts];
        for (int t = 0; t < scores.Rows; t++)
        {
            Span<float> s = scores.Row(t);
            WeightsBackward(gradWeights.Row(t), s, IntRow(indices, t), gradScores, routing);
            if (!balanceGradient.IsEmpty)
            {
                int sequence = sequenceOfToken.IsEmpty ? 0 : sequenceOfToken.Ints[t];
                AddBalanceGradient(balanceGradient.Row(sequence), s, gradScores);
            }

            ScoresBackward(s, gradScores, gradLogits.Row(t), routing.Softmax);
        }
    }

    /// <summary>w_k = c s_k / S with S the sum of the chosen: ds_k = (c g_k - sum over j of g_j w_j) / S.</summary>
    private static void WeightsBackward(
        ReadOnlySpan<float> gradWeights, ReadOnlySpan<float> scores, ReadOnlySpan<int> chosen,
        Span<float> gradScores, in RoutingShape routing)
    {
        float sum = WeightSum(scores, chosen, routing.Normalize);
        float mean = 0;
        if (routing.Normalize)
        {
            for (int k = 0; k < chosen.Length; k++)
            {
                mean = MathF.FusedMultiplyAdd(
                    gradWeights[k] * routing.ScalingFactor, scores[chosen[k]] / sum, mean);
            }
        }

        gradScores.Clear();
        for (int k = 0; k < chosen.Length; k++)
        {
            gradScores[chosen[k]] = ((gradWeights[k] * routing.ScalingFactor) - mean) / sum;
        }
    }

    /// <summary>sn_i = s_i / S with S the sum over all experts: ds_j += (g_j - sum over i of g_i sn_i) / S.</summary>
    private static void AddBalanceGradient(
        ReadOnlySpan<float> gradNormalized, ReadOnlySpan<float> scores, Span<float> gradScores)
    {
        float sum = Sum(scores);
        float mean = Dot(gradNormalized, scores) / sum;
        for (int e = 0; e < gradScores.Length; e++)
        {
            gradScores[e] += (gradNormalized[e] - mean) / sum;
        }
    }

    /// <summary>Sigmoid: dl = ds s (1 - s). Softmax: dl_i = s_i (ds_i - sum over j of ds_j s_j).</summary>
    private static void ScoresBackward(
        ReadOnlySpan<float> scores, ReadOnlySpan<float> gradScores, Span<float> gradLogits, bool softmax)
    {
        float mean = softmax ? Dot(gradScores, scores) : 0;
        for (int e = 0; e < scores.Length; e++)
        {
            gradLogits[e] = softmax
                ? scores[e] * (gradScores[e] - mean)
                : gradScores[e] * (scores[e] * (1 - scores[e]));
        }
    }

    /// <inheritdoc/>
    public void BalanceStatistics(
        Tensor scores, Tensor indices, ReadOnlySpan<int> sequenceStarts, Tensor frequency, Tensor meanScore)
    {
        KernelChecks.BalanceStatistics(scores, indices, sequenceStarts, frequency, meanScore);
        int experts = scores.Columns;
        int topK = indices.Columns;
        for (int s = 0; s < frequency.Rows; s++)
        {
            int tokens = sequenceStarts[s + 1] - sequenceStarts[s];
            Span<float> counts = frequency.Row(s);
            Span<float> means = meanScore.Row(s);
            counts.Clear();
            means.Clear();
            for (int t = sequenceStarts[s]; t < sequenceStarts[s + 1]; t++)
            {
                foreach (int expert in IntRow(indices, t))
                {
                    counts[expert]++;
                }

                Span<float> row = scores.Row(t);
                float sum = Sum(row);
                for (int e = 0; e < experts; e++)
                {
                    means[e] += row[e] / sum;
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

    private static float Sum(ReadOnlySpan<float> values)
    {
        float sum = 0;
        foreach (float value in values)
        {
            sum += value;
        }

        return sum;
    }
}
