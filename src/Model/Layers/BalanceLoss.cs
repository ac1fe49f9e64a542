using Krewe.Model.Tensors;
using Krewe.Model.Training;

namespace Krewe.Model.Layers;

/// <summary>The balance loss of one layer from its two factors, and its gradient (report eq. 17-20).</summary>
public static class BalanceLoss
{
    /// <summary>Mean over sequences of sum_i f_i P_i, before alpha.</summary>
    /// <param name="frequency">[S, E].</param>
    /// <param name="meanScore">[S, E].</param>
    public static double Mean(Tensor frequency, Tensor meanScore)
    {
        double total = 0;
        for (int s = 0; s < frequency.Rows; s++)
        {
            Span<float> f = frequency.Row(s);
            Span<float> p = meanScore.Row(s);
            for (int e = 0; e < f.Length; e++)
            {
                total += (double)f[e] * p[e];
            }
        }

        return total / Math.Max(1, frequency.Rows);
    }

    /// <summary>
    /// d (alpha / units * sum over sequences) / d (normalised score of one token) = alpha f_i / (units T_s): the
    /// choice, and so f, is constant.
    /// </summary>
    /// <param name="frequency">[S, E].</param>
    /// <param name="layout">Lengths of the sequences.</param>
    /// <param name="options">Coefficient, scope and units.</param>
    /// <param name="gradient">[S, E]; overwritten.</param>
    public static void Gradient(
        Tensor frequency, TokenLayout layout, BalanceLossOptions options, Tensor gradient)
    {
        for (int s = 0; s < frequency.Rows; s++)
        {
            int length = options.Scope == BalanceLossScope.Sequence
                ? layout.SequenceStarts[s + 1] - layout.SequenceStarts[s]
                : layout.Tokens;
            float factor = length == 0 ? 0 : (float)(options.Alpha / ((double)options.Units * length));
            Span<float> f = frequency.Row(s);
            Span<float> g = gradient.Row(s);
            for (int e = 0; e < f.Length; e++)
            {
                g[e] = factor * f[e];
            }
        }
    }
}
