namespace Krewe.Model.Generation;

/// <summary>How the next token is chosen.</summary>
/// <param name="Temperature">0 takes the most likely token; 1 samples the model's distribution.</param>
/// <param name="TopK">Only the K most likely tokens; 0 for all.</param>
/// <param name="TopP">Only the smallest set of most likely tokens whose probabilities reach this; 1 for all.</param>
/// <param name="Seed">Seed of the draw; the same seed and logits give the same token.</param>
public sealed record SamplingOptions(float Temperature = 0, int TopK = 0, float TopP = 1, ulong Seed = 0)
{
    /// <summary>Always the most likely token.</summary>
    public static SamplingOptions Greedy { get; } = new();
}

/// <summary>Chooses a token from logits.</summary>
public static class Sampler
{
    /// <summary>Index of the largest logit, the lowest on ties.</summary>
    public static int ArgMax(ReadOnlySpan<float> logits)
    {
        int best = 0;
        for (int i = 1; i < logits.Length; i++)
        {
            if (logits[i] > logits[best])
            {
                best = i;
            }
        }

        return best;
    }

    /// <summary>Draws a token.</summary>
    /// <param name="logits">[V].</param>
    /// <param name="options">Temperature, top-k, top-p and seed.</param>
    /// <param name="draw">Number of this draw within its sequence: each has its own random number.</param>
    public static int Sample(ReadOnlySpan<float> logits, SamplingOptions options, long draw)
    {
        if (options.Temperature <= 0)
        {
            return ArgMax(logits);
        }

        if (options.TopK <= 0 && options.TopP >= 1)
        {
            return SampleAll(logits, options, draw);
        }

        int[] order = new int[logits.Length];
        float[] keys = new float[logits.Length];
        for (int i = 0; i < order.Length; i++)
        {
            order[i] = i;
            keys[i] = -logits[i];
        }

        Array.Sort(keys, order);
        int kept = options.TopK > 0 ? Math.Min(options.TopK, order.Length) : order.Length;
        var probabilities = new double[kept];
        double total = 0;
        for (int i = 0; i < kept; i++)
        {
            probabilities[i] = Math.Exp((keys[0] - keys[i]) / (double)options.Temperature);
            total += probabilities[i];
        }

        double reached = 0;
        for (int i = 0; i < kept; i++)
        {
            reached += probabilities[i];
            if (reached >= options.TopP * total)
            {
                kept = i + 1;
                total = reached;
            }
        }

        double target = Uniform(options.Seed, draw) * total;
        for (int i = 0; i < kept; i++)
        {
            target -= probabilities[i];
            if (target < 0)
            {
                return order[i];
            }
        }

        return order[kept - 1];
    }

    /// <summary>A draw from the whole vocabulary needs no order.</summary>
    private static int SampleAll(ReadOnlySpan<float> logits, SamplingOptions options, long draw)
    {
        float largest = logits[ArgMax(logits)];
        double total = 0;
        foreach (float logit in logits)
        {
            total += Math.Exp((logit - largest) / (double)options.Temperature);
        }

        double target = Uniform(options.Seed, draw) * total;
        for (int i = 0; i < logits.Length; i++)
        {
            target -= Math.Exp((logits[i] - largest) / (double)options.Temperature);
            if (target < 0)
            {
                return i;
            }
        }

        return ArgMax(logits);
    }

    /// <summary>A number in [0, 1) from seed and counter (SplitMix64).</summary>
    private static double Uniform(ulong seed, long draw)
    {
        ulong z = seed + ((ulong)(draw + 1) * 0x9E3779B97F4A7C15UL);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9UL;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBUL;
        return ((z ^ (z >> 31)) >> 11) * (1.0 / (1UL << 53));
    }
}
