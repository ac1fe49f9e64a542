namespace Krewe.Model.Balancing;

/// <summary>The loss-free balance rule (report 2.1.2; arXiv 2408.15664, algorithm 1).</summary>
public static class ExpertBias
{
    /// <summary>
    /// b_i += speed * sign(mean load - load_i), once per optimizer step, over the loads of the whole global batch.
    /// </summary>
    /// <param name="bias">[E] float32, updated.</param>
    /// <param name="load">[E]: tokens that chose each expert, summed over all micro-batches.</param>
    /// <param name="speed">Gamma.</param>
    public static void Update(Span<float> bias, ReadOnlySpan<long> load, float speed)
    {
        long total = 0;
        foreach (long count in load)
        {
            total += count;
        }

        for (int expert = 0; expert < bias.Length; expert++)
        {
            // sign(total / E - load) without a division, so that an exactly mean load moves nothing.
            bias[expert] += speed * Math.Sign(total - (load[expert] * bias.Length));
        }
    }
}
