namespace Krewe.Model.Balancing;

/// <summary>Figures of how evenly experts are used.</summary>
public static class ExpertLoad
{
    /// <summary>
    /// MaxVio = (largest load - mean load) / mean load (arXiv 2408.15664, 4.1); 0 where nothing was routed.
    /// </summary>
    /// <param name="load">[E]: tokens per expert.</param>
    public static double MaxViolation(ReadOnlySpan<long> load)
    {
        long total = 0, largest = 0;
        foreach (long count in load)
        {
            total += count;
            largest = Math.Max(largest, count);
        }

        double mean = (double)total / Math.Max(1, load.Length);
        return total == 0 ? 0 : (largest - mean) / mean;
    }
}
