namespace Krewe.Model.Pipeline;

/// <summary>The state of a simulation. Times follow from the data flow, so ranks may advance in any order.</summary>
internal sealed class SimulatedRun
{
    private readonly PipelineSchedule _schedule;
    private readonly StageTimes _times;
    private readonly List<TimedOp>[] _done;

    /// <summary>When each (direction, stage, micro-batch) began and ended F, I or B, and ended W; NaN before.</summary>
    private readonly double[] _forwardStart, _forwardEnd, _backwardStart, _backwardEnd;

    /// <param name="schedule">The schedule.</param>
    /// <param name="times">Valid times.</param>
    public SimulatedRun(PipelineSchedule schedule, StageTimes times)
    {
        (_schedule, _times) = (schedule, times);
        _done = [.. schedule.Ops.Select(ops => new List<TimedOp>(ops.Count))];
        int cells = schedule.Directions * schedule.Stages * schedule.MicroBatchesPerDirection;
        (_forwardStart, _forwardEnd) = (Unknown(cells), Unknown(cells));
        (_backwardStart, _backwardEnd) = (Unknown(cells), Unknown(cells));
    }

    /// <summary>What each rank has done so far.</summary>
    public IReadOnlyList<IReadOnlyList<TimedOp>> Done => _done;

    /// <summary>Runs the next operation of a rank, if it is known when that can start.</summary>
    public bool TryAdvance(int rank)
    {
        if (_done[rank].Count == _schedule.Ops[rank].Count || Blocker(rank, out double start) is not null)
        {
            return false;
        }

        PipelineOp op = _schedule.Ops[rank][_done[rank].Count];
        double end = start + _times.Of(_schedule, rank, op);
        _done[rank].Add(new(op, start, end));
        foreach (PipelineTask task in op.Tasks)
        {
            Note(rank, task, start, end);
        }

        return true;
    }

    private void Note(int rank, PipelineTask task, double start, double end)
    {
        int cell = Cell(rank, task);
        if (task.Work == PipelineWork.Forward)
        {
            (_forwardStart[cell], _forwardEnd[cell]) = (start, end);
        }
        else if (task.YieldsGradient)
        {
            (_backwardStart[cell], _backwardEnd[cell]) = (start, end);
        }
    }

    /// <summary>Fails where a rank has operations left.</summary>
    public void ThrowIfStuck()
    {
        for (int rank = 0; rank < _schedule.Ranks; rank++)
        {
            if (_done[rank].Count < _schedule.Ops[rank].Count)
            {
                throw new KreweException(
                    $"the {_schedule.Method.Name()} schedule is stuck: rank {rank} waits forever at operation " +
                    $"{_done[rank].Count}, {_schedule.Ops[rank][_done[rank].Count]}, for {Blocker(rank, out _)}");
            }
        }
    }

    /// <summary>What keeps the next operation of a rank from starting, or null and the time it starts.</summary>
    private string? Blocker(int rank, out double start)
    {
        start = 0;
        if (StandsStill(rank, ref start) is { } full)
        {
            return full;
        }

        foreach (PipelineTask task in _schedule.Ops[rank][_done[rank].Count].Tasks)
        {
            if (Missing(rank, task, ref start) is { } missing)
            {
                return missing;
            }
        }

        return null;
    }

    /// <summary>
    /// The receiver that has no room for what the rank's last operation made, or null and <paramref name="start"/> put
    /// off until the rank is free.
    /// </summary>
    private string? StandsStill(int rank, ref double start)
    {
        if (_done[rank].Count == 0)
        {
            return null;
        }

        TimedOp last = _done[rank][^1];
        start = last.End;
        foreach (PipelineTask sent in last.Op.Tasks)
        {
            if (NoRoom(rank, sent, ref start) is { } full)
            {
                return full;
            }
        }

        return null;
    }

    /// <summary>
    /// An input that has not been made yet, or null and <paramref name="start"/> put off until all are there.
    /// </summary>
    private string? Missing(int rank, PipelineTask task, ref double start)
    {
        (int direction, int stage) = _schedule.StageOf(rank, task.Chunk);
        switch (task.Work)
        {
            case PipelineWork.Forward:
                return stage == 0
                    ? null
                    : Input(rank, direction, stage - 1, task.MicroBatch, _forwardEnd, "F", ref start);
            case PipelineWork.BackwardWeight:
                return Input(rank, direction, stage, task.MicroBatch, _backwardEnd, "I", ref start);
            default:
                return Input(rank, direction, stage, task.MicroBatch, _forwardEnd, "F", ref start)
                    ?? (stage == _schedule.Stages - 1
                        ? null
                        : Input(rank, direction, stage + 1, task.MicroBatch, _backwardEnd, "B or I", ref start));
        }
    }

    private string? Input(
        int rank, int direction, int stage, int microBatch, double[] ends, string work, ref double start)
    {
        double end = ends[Cell(direction, stage, microBatch)];
        if (double.IsNaN(end))
        {
            return $"{work} of stage {stage}, direction {direction}, micro-batch {microBatch}";
        }

        start = Math.Max(start, end + (_schedule.RankOf(direction, stage) == rank ? 0 : _times.TransferDelay));
        return null;
    }

    /// <summary>
    /// The receiver whose buffers are full of earlier results, or null and <paramref name="start"/> put off until it
    /// had taken one. Results of one edge are taken in the order of micro-batches.
    /// </summary>
    private string? NoRoom(int rank, PipelineTask sent, ref double start)
    {
        bool forward = sent.Work == PipelineWork.Forward;
        (int direction, int stage) = _schedule.StageOf(rank, sent.Chunk);
        int receiver = forward ? stage + 1 : stage - 1;
        if (_times.BuffersPerEdge is not { } buffers || sent.MicroBatch < buffers
            || sent.Work == PipelineWork.BackwardWeight || receiver < 0 || receiver == _schedule.Stages
            || _schedule.RankOf(direction, receiver) == rank)
        {
            return null;
        }

        double taken = (forward ? _forwardStart : _backwardStart)[Cell(direction, receiver, sent.MicroBatch - buffers)];
        if (double.IsNaN(taken))
        {
            return $"room for the result of {sent}: {buffers} earlier ones wait for stage {receiver} of direction " +
                $"{direction} on rank {_schedule.RankOf(direction, receiver)}; give it more buffers";
        }

        start = Math.Max(start, taken);
        return null;
    }

    private int Cell(int rank, PipelineTask task)
    {
        (int direction, int stage) = _schedule.StageOf(rank, task.Chunk);
        return Cell(direction, stage, task.MicroBatch);
    }

    private int Cell(int direction, int stage, int microBatch) =>
        (((direction * _schedule.Stages) + stage) * _schedule.MicroBatchesPerDirection) + microBatch;

    private static double[] Unknown(int cells)
    {
        double[] times = new double[cells];
        Array.Fill(times, double.NaN);
        return times;
    }
}
