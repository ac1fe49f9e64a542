using System.Diagnostics;
using System.Runtime.ExceptionServices;
using Krewe.Model.Layers;
using Krewe.Model.Pipeline;

namespace Krewe.Grains.Pipeline;

/// <summary>
/// One step on its way: every rank walks its operations, each as soon as the one before it has computed. What that one
/// hands on to another process travels meanwhile.
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
    private readonly List<Task> _deliveries = [];

    /// <summary>When a task computed, in seconds from the start of the step: what it waited for its input is not part.</summary>
    private readonly record struct Interval(double Start, double End);

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
            // The receivers have all computed: these have nothing left to wait for.
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

    private async Task WalkAsync(int rank, Func<Exception, Task> fail, CancellationToken failed)
    {
        IReadOnlyList<PipelineOp> ops = schedule.Ops[rank];
        for (int i = 0; i < ops.Count; i++)
        {
            PipelineOp op = ops[i];
            // Of an overlapped pair the backward goes first: its gradients travel while the forward's attention computes.
            Task<Interval[]> work = op.Second is { } second
                ? Task.WhenAll(StartAsync(rank, second, fail), StartAsync(rank, op.First, fail))
                : Task.WhenAll(StartAsync(rank, op.First, fail));
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

            Interval[] spans = await work;
            _ends[rank][i] = spans.Max(span => span.End);
            _starts[rank][i] = _ends[rank][i] - Busy(spans);
        }
    }

    /// <summary>How long at least one of the one or two tasks computed.</summary>
    private static double Busy(Interval[] spans)
    {
        double both = spans.Length < 2 ? 0 : Math.Min(spans[0].End, spans[1].End) - Math.Max(spans[0].Start, spans[1].Start);
        return spans.Sum(span => span.End - span.Start) - Math.Max(0, both);
    }

    private async Task<Interval> StartAsync(int rank, PipelineTask task, Func<Exception, Task> fail)
    {
        (int direction, int stage) = schedule.StageOf(rank, task.Chunk);
        int slot = schedule.SlotOf(task.Chunk, task.MicroBatch);
        var call = new StepCall(slot, order.Step, order.Attempt);
        IPipelineStageGrain grain = StageAt(direction, stage);
        double start = Now();
        StageReport? report = null;
        switch (task.Work)
        {
            case PipelineWork.Forward:
                report = await grain.ForwardAsync(call, order.Batch[slot], order.Options);
                _losses[slot] = report.Losses ?? _losses[slot];
                foreach (LayerLoad load in report.Loads)
                {
                    _loads[slot].Add(load.Layer, load);
                }

                break;
            case PipelineWork.BackwardWeight:
                await grain.BackwardWeightAsync(call);
                break;
            default:
                report = await grain.BackwardAsync(call, task.Work == PipelineWork.Backward);
                break;
        }

        double end = Now();
        if (report is { Delivers: true })
        {
            _deliveries.Add(FollowAsync(grain.DeliveredAsync(call, task.YieldsGradient), fail));
        }

        return new(start + (report?.WaitedSeconds ?? 0), end);
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
