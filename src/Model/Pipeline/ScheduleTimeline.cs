namespace Krewe.Model.Pipeline;

/// <summary>An operation with the time it took, simulated or measured.</summary>
/// <param name="Op">The operation.</param>
/// <param name="Start">When it began.</param>
/// <param name="End">When it was done.</param>
public readonly record struct TimedOp(PipelineOp Op, double Start, double End)
{
    /// <summary>Time from start to end.</summary>
    public double Duration => End - Start;

    /// <summary>
    /// An operation that its rank may have begun while the one before was under way: the time in which at least one of
    /// its tasks was, less that which belongs to the one before. It ends where the last task ended, so that the times of
    /// a rank do not overlap and their sum is the time in which anything was under way.
    /// </summary>
    /// <param name="op">The operation.</param>
    /// <param name="before">End of the operation before; 0 for the first.</param>
    /// <param name="tasks">When each of its one or two tasks was under way.</param>
    public static TimedOp After(PipelineOp op, double before, ReadOnlySpan<(double Start, double End)> tasks)
    {
        double end = before, busy = 0;
        foreach ((double taskStart, double taskEnd) in tasks)
        {
            end = Math.Max(end, taskEnd);
            busy += Math.Max(0, taskEnd - Math.Max(before, taskStart));
        }

        if (tasks.Length == 2)
        {
            double both = Math.Min(tasks[0].End, tasks[1].End)
                - Math.Max(before, Math.Max(tasks[0].Start, tasks[1].Start));
            busy -= Math.Max(0, both);
        }

        return new(op, end - busy, end);
    }
}

/// <summary>When each rank did what in one step, on one clock: a simulation's units or measured seconds.</summary>
/// <param name="Ranks">The operations of each rank in the order they ran.</param>
public sealed record ScheduleTimeline(IReadOnlyList<IReadOnlyList<TimedOp>> Ranks)
{
    /// <summary>When the first operation began; 0 where there is none.</summary>
    public double Start => Ranks.SelectMany(ops => ops).Select(op => op.Start).DefaultIfEmpty().Min();

    /// <summary>When the last operation was done; 0 where there is none.</summary>
    public double End => Ranks.SelectMany(ops => ops).Select(op => op.End).DefaultIfEmpty().Max();

    /// <summary>Time from the first start to the last end.</summary>
    public double Makespan => End - Start;
}
