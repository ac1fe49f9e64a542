namespace Krewe.Model.Pipeline;

/// <summary>The schedules with one stage on a rank and one direction.</summary>
internal static class SingleDirection
{
    /// <summary>
    /// F0 B0 F1 B1 ...: a rank takes the next micro-batch when the last one's gradient has come back, so that only one
    /// is on its way.
    /// </summary>
    public static List<PipelineOp> Sequential(int microBatches)
    {
        var ops = new List<PipelineOp>(2 * microBatches);
        for (int m = 0; m < microBatches; m++)
        {
            ops.Add(Op(PipelineWork.Forward, m));
            ops.Add(Op(PipelineWork.Backward, m));
        }

        return ops;
    }

    /// <summary>
    /// P-1-r forwards to warm up, then forward and backward in turn, then the backwards that are left
    /// (PipeDream-Flush).
    /// </summary>
    public static List<PipelineOp> OneForwardOneBackward(int rank, int ranks, int microBatches)
    {
        int ahead = Math.Min(ranks - 1 - rank, microBatches);
        var ops = new List<PipelineOp>(2 * microBatches);
        for (int m = 0; m < microBatches + ahead; m++)
        {
            if (m < microBatches)
            {
                ops.Add(Op(PipelineWork.Forward, m));
            }

            if (m >= ahead)
            {
                ops.Add(Op(PipelineWork.Backward, m - ahead));
            }
        }

        return ops;
    }

    /// <summary>
    /// The handcrafted schedule ZB-H1 (Qi et al., Zero Bubble Pipeline Parallelism, 2.1): 1F1B whose backward is I, and
    /// whose W runs r micro-batches behind its I on rank r. Rank r has P-r micro-batches between F and I and r between
    /// I and W: P live ones, as 1F1B has on its first rank.
    /// </summary>
    public static List<PipelineOp> ZeroBubble(int rank, int ranks, int microBatches)
    {
        int ahead = Math.Min(ranks - 1 - rank, microBatches);
        var ops = new List<PipelineOp>(3 * microBatches);
        for (int m = 0; m < microBatches + ahead + rank; m++)
        {
            if (m < microBatches)
            {
                ops.Add(Op(PipelineWork.Forward, m));
            }

            if (m >= ahead && m - ahead < microBatches)
            {
                ops.Add(Op(PipelineWork.BackwardInput, m - ahead));
            }

            if (m >= ahead + rank && m - ahead - rank < microBatches)
            {
                ops.Add(Op(PipelineWork.BackwardWeight, m - ahead - rank));
            }
        }

        return ops;
    }

    private static PipelineOp Op(PipelineWork work, int microBatch) => new(new(work, 0, microBatch));
}
