namespace Krewe.Model.Data;

/// <summary>
/// SplitMix64 (Steele, Lea and Flood 2014): the same numbers from the same seed in every version of .NET, which
/// <see cref="Random"/> does not promise and a run that is resumed years later needs. Not for secrets.
/// </summary>
/// <param name="seed">Any value; streams of different seeds are unrelated.</param>
public sealed class StableRandom(ulong seed)
{
    private ulong _state = seed;

    /// <summary>A generator for a part of the work, such as an epoch, unrelated to its neighbours.</summary>
    public StableRandom(ulong seed, ulong stream) : this(Mix(seed) ^ Mix(~stream)) { }

    /// <summary>64 random bits.</summary>
    public ulong Next() => Mix(_state += 0x9E3779B97F4A7C15);

    /// <summary>An integer in [0, <paramref name="bound"/>), all equally likely.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The bound is not positive.</exception>
    public int NextInt(int bound)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(bound);
        // Lemire's multiplication; the low halves that would favour some results are drawn again.
        ulong threshold = (0 - (ulong)bound) % (ulong)bound;
        while (true)
        {
            ulong high = Math.BigMul(Next(), (ulong)bound, out ulong low);
            if (low >= threshold)
            {
                return (int)high;
            }
        }
    }

    /// <summary>A number in [0, 1) with 53 random bits.</summary>
    public double NextDouble() => (Next() >> 11) * (1.0 / (1UL << 53));

    /// <summary>Brings the values into a random order, all orders equally likely (Fisher-Yates).</summary>
    public void Shuffle<T>(Span<T> values)
    {
        for (int i = values.Length - 1; i > 0; i--)
        {
            int j = NextInt(i + 1);
            (values[i], values[j]) = (values[j], values[i]);
        }
    }

    private static ulong Mix(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}
