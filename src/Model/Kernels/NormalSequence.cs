using System.Numerics;
using System.Runtime.Intrinsics;

namespace Krewe.Model.Kernels;

/// <summary>
/// Normal values of a SplitMix64 sequence by Box-Muller: number n depends on the first state and n alone. What the
/// mathematical library gives for each pair decides; vectors draw eight pairs at once, far more exactly than a float32 can
/// tell, and leave the pairs whose rounding might depend on their last digits to the library. What
/// <see cref="IKernels.FillNormal"/> writes.
/// </summary>
internal static class NormalSequence
{
    private const ulong Step = 0x9E3779B97F4A7C15UL;
    private const double ToUnit = 1.0 / (1UL << 53);
    private const int PairsAtOnce = 8;

    /// <summary>
    /// Relative error that vectors are taken to have at most: some 30,000 times what their logarithm and sine have.
    /// </summary>
    private const double Doubt = 1.0 / (1UL << 38);

    /// <summary>Near zeros of logarithm, sine and cosine relative errors may be larger: those are the library's.</summary>
    private const double NearZero = 1.0 / 1024;

    private static Vector512<ulong> LaneSteps { get; } =
        Vector512.Create(0UL, 1, 2, 3, 4, 5, 6, 7) * Vector512.Create(unchecked(2 * Step));

    /// <summary>The state that number <paramref name="index"/>, an even one, is drawn from.</summary>
    public static ulong Skip(ulong state, long index) => state + ((ulong)index * Step);

    /// <summary>Draws values from a state on.</summary>
    /// <param name="destination">Filled.</param>
    /// <param name="state">First state.</param>
    /// <param name="standardDeviation">Of the values.</param>
    public static void Draw(Span<float> destination, ulong state, double standardDeviation)
    {
        int drawn = 0;
        if (Vector512.IsHardwareAccelerated || Vector256.IsHardwareAccelerated)
        {
            for (; drawn + (2 * PairsAtOnce) <= destination.Length; drawn += 2 * PairsAtOnce)
            {
                DrawPairs(destination.Slice(drawn, 2 * PairsAtOnce), Skip(state, drawn), standardDeviation);
            }
        }

        for (; drawn < destination.Length; drawn += 2)
        {
            DrawPair(destination[drawn..], Skip(state, drawn), standardDeviation);
        }
    }

    /// <summary>One pair, or the first of one where there is room for one value.</summary>
    private static void DrawPair(Span<float> destination, ulong state, double standardDeviation)
    {
        double radius = Math.Sqrt(-2 * Math.Log(1 - Uniform(state + Step)));
        double angle = 2 * Math.PI * Uniform(state + unchecked(2 * Step));
        destination[0] = (float)(standardDeviation * radius * Math.Cos(angle));
        if (destination.Length > 1)
        {
            destination[1] = (float)(standardDeviation * radius * Math.Sin(angle));
        }
    }

    private static void DrawPairs(Span<float> destination, ulong state, double standardDeviation)
    {
        Vector512<ulong> states = Vector512.Create(state + Step) + LaneSteps;
        Vector512<double> first = Uniform(states);
        Vector512<double> radius = Vector512.Sqrt(-2 * Vector512.Log(Vector512<double>.One - first));
        (Vector512<double> sin, Vector512<double> cos) =
            Vector512.SinCos(2 * Math.PI * Uniform(states + Vector512.Create(Step)));
        radius *= standardDeviation;
        Vector512<double> even = radius * cos, odd = radius * sin;
        Vector512.Shuffle(
            Vector512.Narrow(even, odd), Vector512.Create(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15)).CopyTo(destination);

        Vector512<float> same = Vector512.Equals(
            Vector512.Narrow(even * (1 - Doubt), odd * (1 - Doubt)), Vector512.Narrow(even * (1 + Doubt), odd * (1 + Doubt)));
        Vector512<double> near = Vector512.LessThan(
            Vector512.Min(first, Vector512.Min(Vector512.Abs(sin), Vector512.Abs(cos))), Vector512.Create(NearZero));
        ulong doubted = ~same.ExtractMostSignificantBits() & ushort.MaxValue;
        for (ulong left = (doubted | (doubted >> PairsAtOnce) | near.ExtractMostSignificantBits()) & byte.MaxValue; left != 0;
            left &= left - 1)
        {
            int pair = BitOperations.TrailingZeroCount(left);
            DrawPair(destination.Slice(2 * pair, 2), Skip(state, 2 * pair), standardDeviation);
        }
    }

    /// <summary>A number in [0, 1) of a state.</summary>
    private static double Uniform(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9UL;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBUL;
        return ((z ^ (z >> 31)) >> 11) * ToUnit;
    }

    private static Vector512<double> Uniform(Vector512<ulong> z)
    {
        z = (z ^ (z >>> 30)) * Vector512.Create(0xBF58476D1CE4E5B9UL);
        z = (z ^ (z >>> 27)) * Vector512.Create(0x94D049BB133111EBUL);
        return Vector512.ConvertToDouble((z ^ (z >>> 31)) >>> 11) * ToUnit;
    }
}
