namespace Krewe.Model.Pipeline;

/// <summary>How long the operations of a schedule take, in any unit: what the simulator assumes.</summary>
/// <param name="F">Forward of one micro-batch through one stage.</param>
/// <param name="B">Whole backward.</param>
/// <param name="I">Backward for the input alone.</param>
/// <param name="W">Weight gradients alone.</param>
/// <param name="FB">An overlapped forward and backward.</param>
public sealed record StageTimes(double F = 1, double B = 2, double I = 1, double W = 1, double FB = 3)
{
    /// <summary>Factor on every operation of a stage, one entry per stage; null where all stages cost alike.</summary>
    public IReadOnlyList<double>? StageScales { get; init; }

    /// <summary>Time from the end of an operation until its result is on another rank; 0 on the same rank.</summary>
    public double TransferDelay { get; init; }

    /// <summary>
    /// Time from the end of a piece of work on a device until what follows it is there, while the device goes on with what
    /// waits already. Counts where <see cref="OverlappedBlocks"/> is given.
    /// </summary>
    public double CallDelay { get; init; }

    /// <summary>
    /// Results that wait at most between two stages, per direction of travel; null for any number. A rank whose result
    /// has no room stands still until the receiver takes one; the travel of such a result still counts from its end.
    /// </summary>
    public int? BuffersPerEdge { get; init; }

    /// <summary>
    /// Null: one operation after the other, as in the published schedules; a pair is one piece, starts when both inputs
    /// are there and hands on both results at its end. A number: as Krewe runs it, with so many blocks a stage: an
    /// operation may begin while the one before is under way (<see cref="PipelineSchedule.OperationsAtOnce"/>), each half
    /// of a pair when its own input is there; of blocks that wait those of the earlier one go first, a backward hands on
    /// its gradient before its weight gradients, and these fill the waits. Blocks of an operation do not wait for anybody
    /// in between, as with dense layers. <see cref="BuffersPerEdge"/> does not go with it.
    /// </summary>
    public int? OverlappedBlocks { get; init; }

    /// <summary>How long <paramref name="op"/> takes on a rank of <paramref name="schedule"/>.</summary>
    public double Of(PipelineSchedule schedule, int rank, PipelineOp op)
    {
        double first = Alone(op.First.Work) * Scale(schedule, rank, op.First.Chunk);
        if (op.Second is not { } second)
        {
            return first;
        }

        // The two halves may belong to stages of different cost: the pair scales as their sum does.
        double apart = Alone(op.First.Work) + Alone(second.Work);
        double scaled = first + (Alone(second.Work) * Scale(schedule, rank, second.Chunk));
        return apart == 0 ? FB : FB * scaled / apart;
    }

    /// <summary>What the gradient of the input takes of a whole backward; the rest is the weight gradients'.</summary>
    internal double InputShare => I + W > 0 ? I / (I + W) : 0.5;

    /// <summary>What the forward of a pair takes of the pair's time; the rest is the backward's.</summary>
    internal double ForwardOfPair(PipelineSchedule schedule, int rank, PipelineOp pair)
    {
        double forward = Alone(pair.First.Work) * Scale(schedule, rank, pair.First.Chunk);
        double backward = Alone(pair.Second!.Value.Work) * Scale(schedule, rank, pair.Second.Value.Chunk);
        double share = forward + backward > 0 ? forward / (forward + backward) : 0.5;
        return share * Of(schedule, rank, pair);
    }

    /// <summary>Fails on times that no simulation can use.</summary>
    /// <param name="stages">Stages S of the schedule.</param>
    /// <exception cref="KreweException">A negative or infinite time, a missing scale, no buffer.</exception>
    internal void ThrowIfInvalid(int stages)
    {
        (string Name, double Value)[] times =
        [
            ("F", F), ("B", B), ("I", I), ("W", W), ("FB", FB), ("transfer delay", TransferDelay),
            ("call delay", CallDelay),
        ];
        IEnumerable<(string, double)> scales = (StageScales ?? []).Select(scale => ("stage scale", scale));
        foreach ((string name, double value) in times.Concat(scales))
        {
            if (!double.IsFinite(value) || value < 0)
            {
                throw new KreweException($"the time {name} of a schedule must be 0 or more and finite, not {value}");
            }
        }

        if (StageScales is not null && StageScales.Count != stages)
        {
            throw new KreweException(
                $"a schedule of {stages} stages needs {stages} stage scales, not {StageScales.Count}");
        }

        if (OverlappedBlocks is < 1)
        {
            throw new KreweException($"a stage has at least 1 block, not {OverlappedBlocks}");
        }

        if (OverlappedBlocks is not null && BuffersPerEdge is not null)
        {
            throw new KreweException("overlapped blocks cannot be simulated with bounded buffers: leave one of them out");
        }

        if (BuffersPerEdge is < 1)
        {
            throw new KreweException($"a schedule needs at least 1 buffer between two stages, not {BuffersPerEdge}");
        }
    }

    private double Alone(PipelineWork work) => work switch
    {
        PipelineWork.Forward => F,
        PipelineWork.Backward => B,
        PipelineWork.BackwardInput => I,
        _ => W,
    };

    private double Scale(PipelineSchedule schedule, int rank, int chunk) =>
        StageScales is null ? 1 : StageScales[schedule.StageOf(rank, chunk).Stage];
}
