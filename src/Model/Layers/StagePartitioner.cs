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
