namespace Krewe.Model.Pipeline;

/// <summary>An operation with the time it took, simulated or measured.</summary>
/// <param name="Op">The operation.</param>
/// <param name="Start">When it began.</param>
/// <param name="End">When it was done.</param>
public readonly record struct TimedOp(PipelineOp Op, double Start, double End)
{
    /// <summary>Time from start to end.</summary>
    public double Duration => End - Start;
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
