using Krewe.Model.Configuration;

namespace Krewe.Model.Layers;

/// <summary>
/// Angles of the decoupled rotary part (report 2.1.1), with YaRN's frequencies (report 4.3) where the config asks for
/// them. Pairs are interleaved (2i, 2i+1), as released checkpoints are.
/// </summary>
public static class RotaryEmbedding
{
    /// <summary>
    /// Writes the table for <c>IKernels.RotaryEmbedding</c>: [positions, ropeDim] with cos and sin of pair i at columns
    /// 2i and 2i+1.
    /// </summary>
    public static void FillTable(ModelConfig config, Span<float> table)
    {
        int dimension = config.QkRopeHeadDim;
        double[] frequencies = Frequencies(config);
        double magnitude = Magnitude(config.RopeScaling);
        for (int position = 0; position < table.Length / dimension; position++)
        {
            Span<float> row = table.Slice(position * dimension, dimension);
            for (int pair = 0; pair < dimension / 2; pair++)
            {
                // The reference multiplies float32 frequencies by the position; so does this table.
                float angle = position * (float)frequencies[pair];
                row[2 * pair] = (float)(Math.Cos(angle) * magnitude);
                row[(2 * pair) + 1] = (float)(Math.Sin(angle) * magnitude);
            }
        }
    }

    /// <summary>
    /// Angle per position of each pair. Under YaRN: f * (1 - ramp) + f / factor * ramp, ramp rising between the pairs
    /// that turn beta_fast and beta_slow times within the original length.
    /// </summary>
    public static double[] Frequencies(ModelConfig config)
    {
        int dimension = config.QkRopeHeadDim;
        var frequencies = new double[dimension / 2];
        for (int pair = 0; pair < frequencies.Length; pair++)
        {
            frequencies[pair] = 1 / Math.Pow(config.RopeTheta, 2.0 * pair / dimension);
        }

        if (config.RopeScaling is not { } yarn)
        {
            return frequencies;
        }

        double low = Math.Max(0, Math.Floor(CorrectionDimension(yarn.BetaFast, config)));
        double high = Math.Min(dimension - 1, Math.Ceiling(CorrectionDimension(yarn.BetaSlow, config)));
        high = low == high ? high + 0.001 : high;
        for (int pair = 0; pair < frequencies.Length; pair++)
        {
            double ramp = Math.Clamp((pair - low) / (high - low), 0, 1);
            frequencies[pair] = (frequencies[pair] * (1 - ramp)) + (frequencies[pair] / yarn.Factor * ramp);
        }

        return frequencies;
    }

    /// <summary>
    /// The pair whose wavelength turns <paramref name="rotations"/> times within the original length.
    /// </summary>
    private static double CorrectionDimension(double rotations, ModelConfig config) =>
        config.QkRopeHeadDim
        * Math.Log(config.RopeScaling!.OriginalMaxPositionEmbeddings / (rotations * 2 * Math.PI))
        / (2 * Math.Log(config.RopeTheta));

    /// <summary>Factor on cos and sin: the ratio of the two mscales, 1 in the released configs.</summary>
    private static double Magnitude(YarnScaling? yarn) =>
        yarn is null ? 1 : Mscale(yarn.Factor, yarn.Mscale) / Mscale(yarn.Factor, yarn.MscaleAllDim);

    private static double Mscale(double factor, double mscale) =>
        factor <= 1 ? 1 : (0.1 * mscale * Math.Log(factor)) + 1;
}
