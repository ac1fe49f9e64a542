using System.Text;
using Krewe.Model.Layers;
using Krewe.Model.Tensors;

namespace Krewe.Model.Training;

/// <summary>
/// Fresh parameters: matrices normal with <c>initializer_range</c>, norm scales one, routing biases zero. Each value
/// depends on the seed, the name and the position alone, so that any owner on any silo draws the same ones.
/// </summary>
/// <param name="seed">Seed of the run.</param>
/// <param name="standardDeviation"><c>initializer_range</c>.</param>
public sealed class SeededParameters(ulong seed, double standardDeviation) : IParameterSource
{
    private const ulong FnvOffset = 0xCBF29CE484222325UL;
    private const ulong FnvPrime = 0x100000001B3UL;

    /// <inheritdoc/>
    public void Read(string name, TensorShape shape, Span<float> destination)
    {
        if (name.EndsWith("e_score_correction_bias", StringComparison.Ordinal))
        {
            destination.Clear();
            return;
        }

        if (shape.Rank == 1)
        {
            destination.Fill(1);
            return;
        }

        ulong state = FnvOffset ^ seed;
        foreach (byte b in Encoding.UTF8.GetBytes(name))
        {
            state = (state ^ b) * FnvPrime;
        }

        for (int i = 0; i < destination.Length; i += 2)
        {
            // Box-Muller: two normal values from two uniform ones.
            double radius = Math.Sqrt(-2 * Math.Log(1 - Uniform(ref state)));
            double angle = 2 * Math.PI * Uniform(ref state);
            destination[i] = (float)(standardDeviation * radius * Math.Cos(angle));
            if (i + 1 < destination.Length)
            {
                destination[i + 1] = (float)(standardDeviation * radius * Math.Sin(angle));
            }
        }
    }

    /// <summary>The next number in [0, 1) of a SplitMix64 sequence.</summary>
    private static double Uniform(ref ulong state)
    {
        state += 0x9E3779B97F4A7C15UL;
        ulong z = state;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9UL;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBUL;
        return ((z ^ (z >> 31)) >> 11) * (1.0 / (1UL << 53));
    }
}
