namespace Krewe.Model.Pipeline;

/// <summary>
/// Bubble and memory as the DualPipe report's table 2 gives them; PP is the number of stages of one direction. Of the
/// sequential method, which it lacks, the same reasoning.
/// </summary>
public static class PublishedFigures
{
    /// <summary>
    /// Idle time of a rank: (PP-1)(F+B) for 1F1B, (PP-1)(F+B-2W) for ZB1P, (PP/2-1)(FB+B-3W) for DualPipe and
    /// DualPipeV, M(PP-1)(F+B) for one micro-batch after the other. Exact where I = W = F and FB = F + B.
    /// </summary>
    public static double Bubble(PipelineSchedule schedule, StageTimes times) => schedule.Method switch
    {
        PipelineMethod.Sequential => schedule.MicroBatches * (schedule.Stages - 1) * (times.F + times.B),
        PipelineMethod.OneForwardOneBackward => (schedule.Stages - 1) * (times.F + times.B),
        PipelineMethod.ZeroBubble => (schedule.Stages - 1) * (times.F + times.B - (2 * times.W)),
        _ => ((schedule.Stages / 2) - 1) * (times.FB + times.B - (3 * times.W)),
    };

    /// <summary>Most live micro-batches of a rank: PP, for DualPipe and DualPipeV PP+1, for sequential 1.</summary>
    public static int PeakLiveMicroBatches(PipelineSchedule schedule) => schedule.Method switch
    {
        PipelineMethod.Sequential => 1,
        PipelineMethod.OneForwardOneBackward or PipelineMethod.ZeroBubble =>
            Math.Min(schedule.Stages, schedule.MicroBatches),
        _ => schedule.Stages + 1,
    };
}
