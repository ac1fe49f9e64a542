namespace Krewe.Model.Pipeline;

/// <summary>
/// How often a rank runs the body of each of DualPipe's eight steps. A name spells the body: phase 0 is the direction
/// (or branch of the V) that reaches this rank first, phase 1 the other; W is a deferred weight gradient.
/// </summary>
/// <param name="Depth">Distance h from the ends: the number of ranks between this one and the nearer end.</param>
/// <param name="NF0">Step 1: forward of phase 0.</param>
/// <param name="NF0F1">Step 2: forward of phase 0, forward of phase 1.</param>
/// <param name="NB1W1F1">Step 3: input gradient, weight gradient and forward of phase 1.</param>
/// <param name="NF0B1F1B0">Step 4, the main one: the pairs F0|B1 and F1|B0.</param>
/// <param name="NB1F1B0">Step 5: backward of phase 1, the pair F1|B0.</param>
/// <param name="NB1B0">Step 6: backward of phase 1, of phase 0; the later half defers its weight gradients.</param>
/// <param name="NWB0">Step 7: a deferred weight gradient, input gradient of phase 0.</param>
/// <param name="NW">Step 8: the deferred weight gradients that are left.</param>
internal readonly record struct DualPipeSteps(
    int Depth, int NF0, int NF0F1, int NB1W1F1, int NF0B1F1B0, int NB1F1B0, int NB1B0, int NWB0, int NW)
{
    /// <summary>The counts at distance <paramref name="depth"/> from the ends.</summary>
    /// <param name="depth">Distance h, below <paramref name="half"/>.</param>
    /// <param name="half">Ranks from an end to the turning point, H: P/2 under DualPipe, P under DualPipeV.</param>
    /// <param name="perPhase">Micro-batches of one phase, at least 2H.</param>
    public static DualPipeSteps Of(int depth, int half, int perPhase)
    {
        int toTurn = half - depth - 1;
        return new(
            depth, 2 * toTurn, depth + 1, toTurn,
            perPhase - (2 * half) + depth + 1, toTurn, depth + 1, toTurn, depth + 1);
    }

    /// <summary>
    /// Number of step 6's backwards, B1 and B0 counted alike, that still compute their weight gradients at once: h+1 of
    /// the 2h+2 are deferred.
    /// </summary>
    public int WholeBackwards => Depth + 1;
}
