namespace Krewe.Model.Layers;

/// <summary>Cuts a row of costs into runs as evenly as it goes.</summary>
internal static class StagePartitioner
{
    /// <summary>
    /// The lengths of <paramref name="runs"/> contiguous runs, none empty, whose largest cost is smallest; among those
    /// the ones with the least sum of squares; among those the later run takes the smaller length. Exact, by dynamic
    /// programming over (runs, first layers) in O(runs layers^2).
    /// </summary>
    /// <param name="costs">Cost of each layer, not negative; at least as many as runs.</param>
    /// <param name="tail">What the last run costs in addition.</param>
    /// <param name="runs">Number of runs.</param>
    public static int[] Cut(IReadOnlyList<long> costs, long tail, int runs)
    {
        long[] before = new long[costs.Count + 1];
        for (int i = 0; i < costs.Count; i++)
        {
            before[i + 1] = before[i] + costs[i];
        }

        long Run(int run, int from, int to) => before[to] - before[from] + (run == runs - 1 ? tail : 0);

        // Costs of all layers of a large model squared do not fit 64 bits.
        (Int128 largest, _) = Solve(costs.Count, runs, Run, (so, next) => Int128.Max(so, next));
        (_, int[] lengths) = Solve(
            costs.Count, runs, Run, (so, next) => next > largest ? Int128.MaxValue : so + ((Int128)next * next));
        return lengths;
    }

    /// <summary>
    /// The lengths for DualPipe, whose rank r computes half of the micro-batches in run r and half in run R-1-r: the largest
    /// cost of a rank is smallest, where inner ranks count as their costlier run.
    /// </summary>
    /// <param name="costs">Cost of each layer, not negative; at least as many as runs.</param>
    /// <param name="tail">What the last run costs in addition.</param>
    /// <param name="once">The part of the tail that the last rank computes for both directions.</param>
    /// <param name="runs">Number of runs R.</param>
    public static int[] CutMirrored(IReadOnlyList<long> costs, long tail, long once, int runs)
    {
        if (runs < 3)
        {
            return Cut(costs, tail, runs);
        }

        long[] layers = [.. costs];
        int[] best = [];
        (long Largest, Int128 Squares) least = (long.MaxValue, Int128.MaxValue);
        for (int first = 1; first <= layers.Length - runs + 1; first++)
        {
            for (int last = 1; last <= layers.Length - runs + 2 - first; last++)
            {
                // Twice the cost of the last rank, which grows with both lengths.
                long outer = layers[..first].Sum() + layers[^last..].Sum() + tail + once;
                if (outer > least.Largest)
                {
                    break;
                }

                long[] between = layers[first..^last];
                int[] lengths = [first, .. Cut(between, 0, runs - 2), last];
                long[] sums = SumsOf(layers, lengths);
                sums[^1] += tail;
                (long, Int128) score = (
                    Math.Max(outer, 2 * sums[1..^1].Max()), sums.Aggregate(Int128.Zero, (so, sum) => so + ((Int128)sum * sum)));
                if (score.CompareTo(least) < 0)
                {
                    (best, least) = (lengths, score);
                }
            }
        }

        return best;
    }

    private static long[] SumsOf(long[] costs, int[] lengths)
    {
        var sums = new long[lengths.Length];
        for (int run = 0, first = 0; run < sums.Length; first += lengths[run++])
        {
            sums[run] = costs.AsSpan(first, lengths[run]).ToArray().Sum();
        }

        return sums;
    }

    /// <summary>The least total over all cuts, and the lengths of its runs.</summary>
    /// <param name="layers">Number of layers.</param>
    /// <param name="runs">Number of runs.</param>
    /// <param name="cost">Cost of a run by its number, first layer and end.</param>
    /// <param name="join">Total so far and the cost of a further run to the new total; MaxValue for impossible.</param>
    private static (Int128 Total, int[] Lengths) Solve(
        int layers, int runs, Func<int, int, int, long> cost, Func<Int128, long, Int128> join)
    {
        var total = new Int128[layers + 1];
        Array.Fill(total, Int128.MaxValue, 1, layers);
        int[,] start = new int[runs, layers + 1];
        for (int run = 0; run < runs; run++)
        {
            // From the back, so that the totals of the run before are still in place; every run has a layer.
            for (int end = layers; end >= 0; end--)
            {
                Int128 best = Int128.MaxValue;
                for (int from = end - 1; from >= run; from--)
                {
                    if (total[from] != Int128.MaxValue && join(total[from], cost(run, from, end)) is var joined
                        && joined < best)
                    {
                        (best, start[run, end]) = (joined, from);
                    }
                }

                total[end] = best;
            }
        }

        int[] lengths = new int[runs];
        for (int run = runs - 1, end = layers; run >= 0; run--)
        {
            lengths[run] = end - start[run, end];
            end = start[run, end];
        }

        return (total[layers], lengths);
    }
}
