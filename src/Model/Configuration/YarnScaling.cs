namespace Krewe.Model.Configuration;

/// <summary>The <c>rope_scaling</c> of a YaRN-extended model (report 4.3; arXiv 2309.00071).</summary>
public sealed record YarnScaling
{
    /// <summary><c>yarn</c>. Newer files call the key <c>rope_type</c>.</summary>
    public string Type { get; init; } = "yarn";

    /// <summary>How many times longer the context became.</summary>
    public double Factor { get; init; } = 1;

    /// <summary>Context before the extension, tokens.</summary>
    public int OriginalMaxPositionEmbeddings { get; init; }

    /// <summary>Rotations over the original context above which a frequency stays as it is.</summary>
    public double BetaFast { get; init; } = 32;

    /// <summary>Rotations below which a frequency is divided by <see cref="Factor"/>.</summary>
    public double BetaSlow { get; init; } = 1;

    /// <summary>Temperature coefficient on cos and sin, relative to <see cref="MscaleAllDim"/>.</summary>
    public double Mscale { get; init; } = 1;

    /// <summary>Temperature coefficient on the whole head; enters the softmax scale squared. 0 for none.</summary>
    public double MscaleAllDim { get; init; }

    /// <summary>Factor whose square goes on the softmax scale; 1.368888 for the 671B model.</summary>
    public double SoftmaxMscale => MscaleAllDim == 0 ? 1 : MscaleOf(MscaleAllDim);

    /// <summary>
    /// Factor on the cosines and sines; 1 where both coefficients are equal, as in every released model.
    /// </summary>
    public double RotaryMultiplier => MscaleOf(Mscale) / MscaleOf(MscaleAllDim);

    private double MscaleOf(double coefficient) => Factor <= 1 ? 1 : (0.1 * coefficient * Math.Log(Factor)) + 1;
}
