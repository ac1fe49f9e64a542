namespace Krewe.Model.Kernels;

/// <summary>
/// A sequence of normal values that can be entered anywhere: a pair by Box and Muller's formula, in float64, from two
/// consecutive numbers of SplitMix64. What <see cref="IKernels.FillNormal"/> writes.
/// </summary>
internal static class NormalSequence
{
    private const ulong Increment = 0x9E3779B97F4A7C15UL;

    /// <summary>Writes values <paramref name="first"/>, first + 1, ... of the sequence.</summary>
    /// <param name="state">State of SplitMix64 before its first number.</param>
    /// <param name="standardDeviation">Of the values.</param>
    /// <param name="first">Number of the first value; even.</param>
    /// <param name="values">Overwritten.</param>
    public static void Fill(ulong state, double standardDeviation, long first, Span<float> values)
    {
        state += (ulong)first * Increment;
        for (int i = 0; i < values.Length; i += 2)
        {
            double radius = Math.Sqrt(-2 * Math.Log(1 - Uniform(ref state)));
            double angle = 2 * Math.PI * Uniform(ref state);
            values[i] = (float)(standardDeviation * radius * Math.Cos(angle));
            if (i + 1 < values.Length)
            {
                values[i + 1] = (float)(standardDeviation * radius * Math.Sin(angle));
            }
        }
    }

    /// <summary>The next number in [0, 1).</summary>
    private static double Uniform(ref ulong state)
    {
        state += Increment;
        ulong z = state;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9UL;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBUL;
        return ((z ^ (z >> 31)) >> 11) * (1.0 / (1UL << 53));
    }
}
