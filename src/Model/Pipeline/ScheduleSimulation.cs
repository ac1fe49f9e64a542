namespace Krewe.Model.Pipeline;

/// <summary>What a timeline amounts to, whether it was simulated or measured.</summary>
/// <param name="Timeline">The timeline.</param>
/// <param name="Makespan">Time from the first start to the last end.</param>
/// <param name="Bubbles">Idle time of each rank: the makespan less the time in operations.</param>
/// <param name="PeakLiveMicroBatches">
/// Most micro-batches of each rank whose activations were held at once, from the start of F to the end of B or W; a
/// micro-batch that is in both of a rank's stages counts twice.
/// </param>
/// <param name="PeakPendingWeights">Most weight gradients of each rank that waited between I and W at once.</param>
public sealed record ScheduleSimulation(
    ScheduleTimeline Timeline,
    double Makespan,
    IReadOnlyList<double> Bubbles,
    IReadOnlyList<int> PeakLiveMicroBatches,
    IReadOnlyList<int> PeakPendingWeights)
{
    /// <summary>Idle time of the rank that waits longest.</summary>
    public double Bubble => Bubbles.Max();

    /// <summary>Share of all ranks' time that is idle, 0 to 1.</summary>
    public double BubbleShare => Makespan > 0 ? Bubbles.Average() / Makespan : 0;

    /// <summary>The figures of <paramref name="timeline"/>.</summary>
    public static ScheduleSimulation Of(ScheduleTimeline timeline)
    {
        double makespan = timeline.Makespan;
        return new(
            timeline,
            makespan,
            [.. timeline.Ranks.Select(ops => makespan - ops.Sum(op => op.Duration))],
            [.. timeline.Ranks.Select(ops => Peak(ops, Begins, task => task.FreesActivations))],
            [.. timeline.Ranks.Select(ops => Peak(ops, Defers, task => task.Work == PipelineWork.BackwardWeight))]);
    }

    private static bool Begins(PipelineTask task) => task.Work == PipelineWork.Forward;

    private static bool Defers(PipelineTask task) => task.Work == PipelineWork.BackwardInput;

    /// <summary>
    /// Most things held at once. A rank runs one operation at a time, so that their order is enough: what an operation
    /// takes it takes at its start, what it frees it frees at its end.
    /// </summary>
    private static int Peak(
        IReadOnlyList<TimedOp> ops, Func<PipelineTask, bool> takes, Func<PipelineTask, bool> frees)
    {
        int held = 0, peak = 0;
        foreach (TimedOp timed in ops)
        {
            held += timed.Op.Tasks.Count(takes);
            peak = Math.Max(peak, held);
            held -= timed.Op.Tasks.Count(frees);
        }

        return peak;
    }
}
