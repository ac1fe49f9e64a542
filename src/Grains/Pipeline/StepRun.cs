using System.Diagnostics;
using System.Runtime.ExceptionServices;
using Krewe.Model.Layers;
using Krewe.Model.Pipeline;

namespace Krewe.Grains.Pipeline;

/// <summary>
/// One step on its way: every rank walks its operations, one or two of them at once. What one hands on to another
/// process travels meanwhile, and its weight gradients are added when the device has nothing else to do.
/// </summary>
/// <param name="grains">The cluster.</param>
/// <param name="name">Run name.</param>
/// <param name="schedule">Operations of each rank.</param>
/// <param name="order">The step.</param>
internal sealed class StepRun(IGrainFactory grains, string name, PipelineSchedule schedule, StepOrder order)
{
    private readonly long _start = Stopwatch.GetTimestamp();
    private readonly MicroBatchLosses?[] _losses = new MicroBatchLosses?[schedule.MicroBatches];
    private readonly SortedDictionary<int, LayerLoad>[] _loads =
        [.. Enumerable.Range(0, schedule.MicroBatches).Select(_ => new SortedDictionary<int, LayerLoad>())];

    private readonly double[][] _starts = [.. schedule.Ops.Select(ops => new double[ops.Count])];
    private readonly double[][] _ends = [.. schedule.Ops.Select(ops => new double[ops.Count])];
    private readonly int[] _calls = new int[schedule.Ranks];
    private readonly List<Task> _deliveries = [];

    /// <summary>A task of the operation that a rank has begun; in seconds from the start of the step.</summary>
    private readonly record struct Running(PipelineTask Task, Task<(double Start, double End)> Span);

    /// <summary>Runs all ranks; the first failure ends the others' waiting and is thrown.</summary>
    public async Task<StepOutcome> RunAsync()
    {
        using var failed = new CancellationTokenSource();
        Exception? first = null;
        await Task.WhenAll(Enumerable.Range(0, schedule.Ranks).Select(async rank =>
        {
            try
            {
                await WalkAsync(rank, FailAsync, failed.Token);
            }
            catch (Exception exception)
            {
                await FailAsync(exception);
            }
        }));
        if (first is null)
        {
            // The receivers of deliveries have all computed; reports that follow their calls have deadlines of their own.
            await Task.WhenAll(_deliveries);
        }

        if (first is not null)
        {
            ExceptionDispatchInfo.Throw(first);
        }

        if (order.Plan.Directions == 2)
        {
            await Task.WhenAll(Enumerable.Range(0, schedule.Stages).Select(stage =>
                StageAt(0, stage).ExchangeGradientsAsync(new(0, order.Step, order.Attempt))));
        }

        return new([.. _losses.Select(losses => losses!)], [.. _loads.Select(loads => loads.Values.ToArray())]);

        // The others wait for what will never be sent; their own cancellation is no news.
        async Task FailAsync(Exception exception)
        {
            first ??= exception;
            await failed.CancelAsync();
        }
    }

    /// <summary>When the operations ran.</summary>
    public StepTimeline Timeline()
    {
        string[] silos = [.. Enumerable.Range(0, schedule.Ranks).Select(SiloOf)];
        return new(
            order.Step, schedule.Method, silos, silos,
            [.. schedule.Ops.Select(ops => ops.Select(op => op.ToString()).ToArray())], _starts, _ends);
    }

    /// <summary>
    /// Runs the operations of a rank in order, as many at once as the schedule says: while one waits for experts on other
    /// silos or adds its weight gradients, the next one gives the device work.
    /// </summary>
    private async Task WalkAsync(int rank, Func<Exception, Task> fail, CancellationToken failed)
    {
        IReadOnlyList<PipelineOp> ops = schedule.Ops[rank];
        var underWay = new Queue<Running[]>();
        Running[] before = [];
        for (int i = 0; i < ops.Count; i++)
        {
            before = Begin(rank, ops[i], before, fail);
            underWay.Enqueue(before);
            if (underWay.Count == schedule.OperationsAtOnce)
            {
                await EndAsync(rank, i + 1 - underWay.Count, underWay.Peek(), failed);
                underWay.Dequeue();
            }
        }

        while (underWay.Count > 0)
        {
            await EndAsync(rank, ops.Count - underWay.Count, underWay.Peek(), failed);
            underWay.Dequeue();
        }
    }

    /// <summary>Of an overlapped pair the backward goes first: its gradients travel while the forward's attention computes.</summary>
    private Running[] Begin(int rank, PipelineOp op, Running[] before, Func<Exception, Task> fail) =>
        [.. op.Tasks.Reverse().Select(task => new Running(task, RunAsync(rank, task, before, fail)))];

    private async Task EndAsync(int rank, int index, Running[] tasks, CancellationToken failed)
    {
        PipelineOp op = schedule.Ops[rank][index];
        Task<(double Start, double End)[]> work = Task.WhenAll(tasks.Select(running => running.Span));
        try
        {
            await work.WaitAsync(order.OperationDeadline, failed);
        }
        catch (TimeoutException exception) when (!work.IsCompleted)
        {
            throw new TimeoutException(
                $"step {order.Step} of '{name}': {op} on rank {rank} (silo '{SiloOf(rank)}') has not ended after " +
                $"{order.OperationDeadline.TotalSeconds:F0} s; {WaitsFor(rank, op.First)}", exception);
        }

        double before = index > 0 ? _ends[rank][index - 1] : 0;
        (_, _starts[rank][index], _ends[rank][index]) = TimedOp.After(op, before, await work);
    }

    /// <summary>Runs a task when its turn has come; the time of it, less what it waited for its input.</summary>
    private async Task<(double Start, double End)> RunAsync(
        int rank, PipelineTask task, Running[] before, Func<Exception, Task> fail)
    {
        try
        {
            await AfterAsync(before, task.StartsAfter);
            (int direction, int stage) = schedule.StageOf(rank, task.Chunk);
            int slot = schedule.SlotOf(task.Chunk, task.MicroBatch);
            var call = new StepCall(slot, order.Step, order.Attempt);
            IPipelineStageGrain grain = StageAt(direction, stage);
            double start = Now();
            double waited = 0;
            if (task.Work == PipelineWork.Forward)
            {
                StageReport report = await grain.ForwardAsync(InTurn(call, rank), order.Batch[slot], order.Options);
                waited = report.WaitedSeconds;
                if (report.Follows)
                {
                    _deliveries.Add(FollowAsync(NoteAsync(grain, call, task, rank), fail));
                }
                else
                {
                    Note(slot, report);
                }

                Follow(grain, call, task, report, fail);
            }
            else if (task.YieldsGradient)
            {
                StageReport report = await grain.BackwardAsync(InTurn(call, rank), weightGradients: false);
                waited = report.WaitedSeconds;
                Follow(grain, call, task, report, fail);
            }

            if (task.FreesActivations)
            {
                await AfterAsync(before, task.WeightsFollow);
                await grain.BackwardWeightAsync(call);
            }

            return (start + waited, Now());
        }
        catch (Exception exception)
        {
            // The rank may be waiting for the operation before, which may never end.
            await fail(exception);
            throw;
        }
    }

    /// <summary>The call with its place among those to its rank, which begin in the order of the schedule.</summary>
    private StepCall InTurn(StepCall call, int rank) => call with { Turn = _calls[rank]++, Rank = rank };

    /// <summary>Waits for those of the tasks of the operation before that a task comes after.</summary>
    private static async Task AfterAsync(Running[] before, Func<PipelineTask, bool> isAfter)
    {
        foreach (Running running in before.Where(running => isAfter(running.Task)))
        {
            await running.Span;
        }
    }

    /// <summary>Notes a report when its forward is done, by when the rank has gone on.</summary>
    private async Task NoteAsync(IPipelineStageGrain grain, StepCall call, PipelineTask task, int rank)
    {
        Task<StageReport> report = grain.ReportAsync(call);
        try
        {
            Note((int)call.Slot, await report.WaitAsync(order.OperationDeadline));
        }
        catch (TimeoutException exception) when (!report.IsCompleted)
        {
            throw new TimeoutException(
                $"step {order.Step} of '{name}': {task} on rank {rank} (silo '{SiloOf(rank)}') was launched and has not ended " +
                $"after {order.OperationDeadline.TotalSeconds:F0} s", exception);
        }
    }

    private void Note(int slot, StageReport report)
    {
        _losses[slot] = report.Losses ?? _losses[slot];
        foreach (LayerLoad load in report.Loads)
        {
            _loads[slot].Add(load.Layer, load);
        }
    }

    private void Follow(
        IPipelineStageGrain grain, StepCall call, PipelineTask task, StageReport report, Func<Exception, Task> fail)
    {
        if (report.Delivers)
        {
            _deliveries.Add(FollowAsync(grain.DeliveredAsync(call, task.YieldsGradient), fail));
        }
    }

    /// <summary>A delivery that fails leaves its receiver waiting: the step is over.</summary>
    private static async Task FollowAsync(Task delivered, Func<Exception, Task> fail)
    {
        try
        {
            await delivered;
        }
        catch (Exception exception)
        {
            await fail(exception);
        }
    }

    private double Now() => Stopwatch.GetElapsedTime(_start).TotalSeconds;

    private string WaitsFor(int rank, PipelineTask task)
    {
        (int direction, int stage) = schedule.StageOf(rank, task.Chunk);
        int from = task.Work == PipelineWork.Forward ? stage - 1 : stage + 1;
        if (from < 0 || from >= schedule.Stages || task.Work == PipelineWork.BackwardWeight)
        {
            return $"it waits for the experts or for its own device{WaitsForTable(direction, stage, task)}";
        }

        int peer = schedule.RankOf(direction, from);
        return $"it needs stage {from} of rank {peer} (silo '{SiloOf(peer)}')";
    }

    /// <summary>The embedding or head of another silo that a task needs, for messages.</summary>
    private string WaitsForTable(int direction, int stage, PipelineTask task)
    {
        int owner = order.Plan.SiloOfStage[stage];
        bool first = stage == 0;
        return order.Plan.SiloOfCopy(direction, stage) == owner || task.Work == PipelineWork.BackwardWeight
            || !(first || (stage == schedule.Stages - 1 && task.Work == PipelineWork.Forward))
                ? ""
                : $", or for the {(first ? "embedding" : "head")} on silo '{order.Plan.Silos[owner]}'";
    }

    private string SiloOf(int rank)
    {
        (int direction, int stage) = schedule.StageOf(rank, 0);
        return order.Plan.Silos[order.Plan.SiloOfCopy(direction, stage)];
    }

    private IPipelineStageGrain StageAt(int direction, int stage) =>
        grains.GetGrain<IPipelineStageGrain>(GrainKeys.Stage(name, stage, direction));
}
