using Krewe.Model.Training;

namespace Krewe.Model.Layers;

/// <summary>The balance loss of one layer from its two factors, and its gradient (report eq. 17-20).</summary>
public static class BalanceLoss
{
    /// <summary>Mean over sequences of sum_i f_i P_i, before alpha.</summary>
    /// <param name="frequency">[S, E].</param>
    /// <param name="meanScore">[S, E].</param>
    /// <param name="sequences">Number S.</param>
    public static double Mean(ReadOnlySpan<float> frequency, ReadOnlySpan<float> meanScore, int sequences)
    {
        double total = 0;
        for (int i = 0; i < frequency.Length; i++)
        {
            total += (double)frequency[i] * meanScore[i];
        }

        return total / Math.Max(1, sequences);
    }

    /// <summary>
    /// d (alpha / units * sum over sequences) / d (normalised score of one token) = alpha f_i / (units T_s), which is the
    /// frequency times a factor: the choice, and so f, is constant.
    /// </summary>
    /// <param name="layout">Lengths of the sequences.</param>
    /// <param name="options">Coefficient, scope and units.</param>
    /// <param name="factors">[S]; overwritten.</param>
    public static void GradientFactors(TokenLayout layout, BalanceLossOptions options, Span<float> factors)
    {
        for (int s = 0; s < factors.Length; s++)
        {
            int length = options.Scope == BalanceLossScope.Sequence
                ? layout.SequenceStarts[s + 1] - layout.SequenceStarts[s]
                : layout.Tokens;
            factors[s] = length == 0 ? 0 : (float)(options.Alpha / ((double)options.Units * length));
        }
    }
}
