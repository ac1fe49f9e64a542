using Krewe.Model.Tensors;

namespace Krewe.Model.Pipeline;

/// <summary>
/// A schedule as Krewe runs it, event by event: a rank has
/// <see cref="PipelineSchedule.OperationsAtOnce"/> operations under way, its device runs their pieces in the
/// order of a <see cref="WorkQueue{T}"/>, and weight gradients are background work.
/// </summary>
internal sealed class OverlappedRun
{
    private readonly PipelineSchedule _schedule;
    private readonly StageTimes _times;
    private readonly int _blocks;
    private readonly Rank[] _ranks;
    private readonly HashSet<(int Direction, int Stage, int MicroBatch, bool Gradient)> _delivered = [];
    private readonly PriorityQueue<Action, (double Time, long Number)> _events = new();
    private long _lastEvent;
    private double _now;

    /// <param name="schedule">The schedule.</param>
    /// <param name="times">Valid times.</param>
    /// <param name="blocks">Blocks of a stage, at least 1.</param>
    public OverlappedRun(PipelineSchedule schedule, StageTimes times, int blocks)
    {
        (_schedule, _times, _blocks) = (schedule, times, blocks);
        _ranks = [.. schedule.Ops.Select((ops, rank) => new Rank(rank, [.. ops.Select(op => TasksOf(rank, op))]))];
    }

    /// <summary>One task on its way. Times are of all blocks; a piece is one block.</summary>
    private sealed class Work(PipelineTask task, double compute, double weights)
    {
        public PipelineTask Task { get; } = task;
        public double Compute { get; } = compute;
        public double Weights { get; } = weights;
        public double Start { get; set; } = double.NaN;
        public double End { get; set; } = double.NaN;
        public bool Computed { get; set; }
        public bool AddsWeights { get; set; }
        public bool HasStarted => !double.IsNaN(Start);
        public bool HasEnded => !double.IsNaN(End);
    }

    /// <summary>A rank and its device. Of a pair the backward is the first of the tasks.</summary>
    private sealed class Rank(int number, Work[][] ops)
    {
        public int Number { get; } = number;
        public Work[][] Ops { get; } = ops;
        public WorkQueue<(double Duration, Action? Done)> Queue { get; } = new();
        public List<TimedOp> Done { get; } = [];
        public bool IsBusy { get; set; }
    }

    /// <summary>Runs to the end.</summary>
    /// <exception cref="KreweException">The ranks wait for each other forever.</exception>
    public ScheduleTimeline Run()
    {
        foreach (Rank rank in _ranks)
        {
            Advance(rank);
        }

        while (_events.TryDequeue(out Action? happens, out (double Time, long) at))
        {
            _now = at.Time;
            happens();
        }

        if (_ranks.FirstOrDefault(rank => rank.Done.Count < rank.Ops.Length) is { } stuck)
        {
            throw new KreweException(
                $"the {_schedule.Method.Name()} schedule is stuck: rank {stuck.Number} waits forever at operation " +
                $"{stuck.Done.Count}, {_schedule.Ops[stuck.Number][stuck.Done.Count]}");
        }

        return new([.. _ranks.Select(rank => (IReadOnlyList<TimedOp>)rank.Done)]);
    }

    private Work[] TasksOf(int rank, PipelineOp op)
    {
        double whole = _times.Of(_schedule, rank, op);
        if (op.Second is { } backward)
        {
            double forward = _times.ForwardOfPair(_schedule, rank, op);
            return [WorkOf(backward, whole - forward), WorkOf(op.First, forward)];
        }

        return [WorkOf(op.First, whole)];
    }

    private Work WorkOf(PipelineTask task, double whole) => task.Work switch
    {
        PipelineWork.Backward => new(task, whole * _times.InputShare, whole * (1 - _times.InputShare)),
        PipelineWork.BackwardWeight => new(task, 0, whole),
        _ => new(task, whole, 0),
    };

    private void At(double time, Action happens) => _events.Enqueue(happens, (time, ++_lastEvent));

    /// <summary>Ends the operations that are done, and starts what can be.</summary>
    private void Advance(Rank rank)
    {
        while (rank.Done.Count < rank.Ops.Length && rank.Ops[rank.Done.Count].All(work => work.HasEnded))
        {
            PipelineOp op = _schedule.Ops[rank.Number][rank.Done.Count];
            double before = rank.Done.Count > 0 ? rank.Done[^1].End : 0;
            rank.Done.Add(TimedOp.After(
                op, before, [.. rank.Ops[rank.Done.Count].Select(work => (work.Start, work.End))]));
        }

        int last = Math.Min(rank.Done.Count + _schedule.OperationsAtOnce, rank.Ops.Length);
        for (int op = rank.Done.Count; op < last; op++)
        {
            Work[] before = op > 0 ? rank.Ops[op - 1] : [];
            foreach (Work work in rank.Ops[op])
            {
                if (!work.HasStarted && HasInput(rank, work.Task)
                    && before.All(earlier => earlier.HasEnded || !work.Task.StartsAfter(earlier.Task)))
                {
                    work.Start = _now;
                    Submit(rank, work.Compute, WorkPriority.Of(op), () => Compute(rank, work));
                }

                if (work.Computed && !work.AddsWeights
                    && before.All(earlier => earlier.HasEnded || !work.Task.WeightsFollow(earlier.Task)))
                {
                    work.AddsWeights = true;
                    Submit(rank, work.Weights, WorkPriority.Background, () => End(rank, work));
                }
            }
        }
    }

    private bool HasInput(Rank rank, PipelineTask task)
    {
        (int direction, int stage) = _schedule.StageOf(rank.Number, task.Chunk);
        return task.Work == PipelineWork.BackwardWeight
            || stage == (task.YieldsGradient ? _schedule.Stages - 1 : 0)
            || _delivered.Contains((direction, stage, task.MicroBatch, task.YieldsGradient));
    }

    /// <summary>Submits the blocks of a task; what takes no time is no work.</summary>
    private void Submit(Rank rank, double whole, WorkPriority priority, Action done)
    {
        if (whole <= 0)
        {
            At(_now, done);
            return;
        }

        for (int block = 0; block < _blocks; block++)
        {
            rank.Queue.Enqueue((whole / _blocks, block == _blocks - 1 ? done : null), priority);
        }

        // In an event of its own: what is submitted at the same time is in the queue by then.
        At(_now, () => Take(rank));
    }

    private void Take(Rank rank)
    {
        if (rank.IsBusy || rank.Queue.Count == 0)
        {
            return;
        }

        rank.IsBusy = true;
        (double duration, Action? done) = rank.Queue.Dequeue();
        At(_now + duration, () =>
        {
            rank.IsBusy = false;
            // Without a delay what follows is in the queue before the device looks into it.
            if (done is not null)
            {
                At(_now + _times.CallDelay, done);
            }

            At(_now, () => Take(rank));
        });
    }

    /// <summary>
    /// A task has computed: its result goes to the next stage, its weight gradients come when it is their turn.
    /// </summary>
    private void Compute(Rank rank, Work work)
    {
        PipelineTask task = work.Task;
        (int direction, int stage) = _schedule.StageOf(rank.Number, task.Chunk);
        int to = stage + (task.YieldsGradient ? -1 : 1);
        if (task.Work != PipelineWork.BackwardWeight && to >= 0 && to < _schedule.Stages)
        {
            Rank receiver = _ranks[_schedule.RankOf(direction, to)];
            At(_now + (receiver == rank ? 0 : _times.TransferDelay), () =>
            {
                _delivered.Add((direction, to, task.MicroBatch, task.YieldsGradient));
                Advance(receiver);
            });
        }

        work.Computed = true;
        if (task.FreesActivations)
        {
            Advance(rank);
        }
        else
        {
            work.AddsWeights = true;
            End(rank, work);
        }
    }

    private void End(Rank rank, Work work)
    {
        work.End = _now;
        Advance(rank);
    }
}
