using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Reference;

/// <content>The gate (report eq. 12-16).</content>
public sealed unsafe partial class ReferenceKernels
{
    /// <summary>Keeps the division by the sum of the chosen scores finite.</summary>
    private const float WeightSumEpsilon = 1e-20f;

    /// <inheritdoc/>
    public void Route(
        Tensor logits, Tensor bias, Tensor scores, Tensor indices, Tensor weights, in RoutingShape routing)
    {
        KernelChecks.Route(logits, bias, scores, indices, weights, routing);
        float[] biased = new float[routing.Experts];
        for (int t = 0; t < logits.Rows; t++)
        {
            Span<float> s = scores.Row(t);
            ScoreExperts(logits.Row(t), s, routing.Softmax);
            for (int e = 0; e < biased.Length; e++)
            {
                biased[e] = bias.IsEmpty ? s[e] : s[e] + bias.Floats[e];
            }

            if (routing.Groups > 1)
            {
                MaskGroups(biased, routing);
            }

            Span<int> chosen = IntRow(indices, t);
            ChooseLargest(biased, chosen);
            Weigh(s, chosen, weights.Row(t), routing);
        }
    }

    private static void ScoreExperts(ReadOnlySpan<float> logits, Span<float> scores, bool softmax)
    {
        if (softmax)
        {
            logits.CopyTo(scores);
            (_, float sum) = ExpAndSum(scores);
            Divide(scores, sum);
            return;
        }

        for (int e = 0; e < scores.Length; e++)
        {
            scores[e] = Sigmoid(logits[e]);
        }
    }

    /// <summary>Scores of all experts outside the kept groups become -inf, below any negative score.</summary>
    private static void MaskGroups(Span<float> biased, in RoutingShape routing)
    {
        int size = routing.Experts / routing.Groups;
        float[] groupScores = new float[routing.Groups];
        for (int group = 0; group < routing.Groups; group++)
        {
            float first = float.NegativeInfinity;
            float second = float.NegativeInfinity;
            foreach (float score in biased.Slice(group * size, size))
            {
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

        int[] kept = new int[routing.KeptGroups];
        ChooseLargest(groupScores, kept);
        for (int group = 0; group < routing.Groups; group++)
        {
            if (!kept.Contains(group))
            {
                biased.Slice(group * size, size).Fill(float.NegativeInfinity);
            }
        }
    }

    /// <summary>Positions of the largest values, in rising order; among equals the lowest position.</summary>
    private static void ChooseLargest(ReadOnlySpan<float> values, Span<int> chosen)
    {
        bool[] taken = new bool[values.Length];
        for (int k = 0; k < chosen.Length; k++)
        {
            int best = -1;
            for (int i = 0; i < values.Length; i++)
            {
                if (!taken[i] && (best < 0 || values[i] > values[best]))
                {
                    best = i;
                }
            }

            taken[best] = true;
            chosen[k] = best;
        }

        chosen.Sort();
    }

    /// <summary>Weights come from the scores without bias: s / (sum of chosen s + 1e-20) * factor.</summary>
    private static void Weigh(
        ReadOnlySpan<float> scores, ReadOnlySpan<int> chosen, Span<float> weights, in RoutingShape routing)
    {
        float sum = WeightSum(scores, chosen, routing.Normalize);
        for (int k = 0; k < chosen.Length; k++)
        {
            weights[k] = scores[chosen[k]] / sum * routing.ScalingFactor;
        }
    }

    /// <summary>The divisor of the weights; 1 where they are not normalised.</summary>
    private static float WeightSum(ReadOnlySpan<float> scores, ReadOnlySpan<int> chosen, bool normalize)
    {
        if (!normalize)
        {
            return 1;
        }

        float sum = 0;
        foreach (int expert in chosen)
        {
            sum += scores[expert];
        }

        return sum + WeightSumEpsilon;
    }
}
