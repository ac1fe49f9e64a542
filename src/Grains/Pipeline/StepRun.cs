using System.Diagnostics;
using Krewe.Model.Layers;
using Krewe.Model.Pipeline;

namespace Krewe.Grains.Pipeline;

/// <summary>One step on its way: every rank walks its operations, each as soon as the one before it has ended.</summary>
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

    /// <summary>Runs all ranks; the first failure ends the others' waiting and is thrown.</summary>
    public async Task<StepOutcome> RunAsync()
    {
        using var failed = new CancellationTokenSource();
        Exception? first = null;
        await Task.WhenAll(Enumerable.Range(0, schedule.Ranks).Select(async rank =>
        {
            try
            {
                await WalkAsync(rank, failed.Token);
            }
            catch (Exception exception)
            {
                // The others wait for what this rank will never send; their own cancellation is no news.
                first ??= exception;
                await failed.CancelAsync();
            }
        }));
        if (first is not null)
        {
            throw first;
        }

        if (order.Plan.Directions == 2)
        {
            await Task.WhenAll(Enumerable.Range(0, schedule.Stages).Select(stage =>
                StageAt(0, stage).ExchangeGradientsAsync(new(0, order.Step, order.Attempt))));
        }

        return new([.. _losses.Select(losses => losses!)], [.. _loads.Select(loads => loads.Values.ToArray())]);
    }

    /// <summary>When the operations ran.</summary>
    public StepTimeline Timeline()
    {
        string[] silos = [.. Enumerable.Range(0, schedule.Ranks).Select(SiloOf)];
        return new(
            order.Step, schedule.Method, silos, silos,
            [.. schedule.Ops.Select(ops => ops.Select(op => op.ToString()).ToArray())], _starts, _ends);
    }

    private async Task WalkAsync(int rank, CancellationToken failed)
    {
        IReadOnlyList<PipelineOp> ops = schedule.Ops[rank];
        for (int i = 0; i < ops.Count; i++)
        {
            PipelineOp op = ops[i];
            _starts[rank][i] = Stopwatch.GetElapsedTime(_start).TotalSeconds;
            // Of an overlapped pair the backward goes first: its gradients travel while the forward's attention computes.
            Task work = op.Second is { } second
                ? Task.WhenAll(StartAsync(rank, second), StartAsync(rank, op.First))
                : StartAsync(rank, op.First);
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

            _ends[rank][i] = Stopwatch.GetElapsedTime(_start).TotalSeconds;
        }
    }

    private async Task StartAsync(int rank, PipelineTask task)
    {
        (int direction, int stage) = schedule.StageOf(rank, task.Chunk);
        int slot = schedule.SlotOf(task.Chunk, task.MicroBatch);
        var call = new StepCall(slot, order.Step, order.Attempt);
        IPipelineStageGrain grain = StageAt(direction, stage);
        switch (task.Work)
        {
            case PipelineWork.Forward:
                StageReport report = await grain.ForwardAsync(call, order.Batch[slot], order.Options);
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
                await grain.BackwardAsync(call, task.Work == PipelineWork.Backward);
                break;
        }
    }

    private string WaitsFor(int rank, PipelineTask task)
    {
        (int direction, int stage) = schedule.StageOf(rank, task.Chunk);
        int from = task.Work == PipelineWork.Forward ? stage - 1 : stage + 1;
        if (from < 0 || from >= schedule.Stages || task.Work == PipelineWork.BackwardWeight)
        {
            return "it waits for the experts or for its own device";
        }

        int peer = schedule.RankOf(direction, from);
        return $"it needs stage {from} of rank {peer} (silo '{SiloOf(peer)}')";
    }

    private string SiloOf(int rank)
    {
        (int direction, int stage) = schedule.StageOf(rank, 0);
        return order.Plan.Silos[order.Plan.SiloOfCopy(direction, stage)];
    }

    private IPipelineStageGrain StageAt(int direction, int stage) =>
        grains.GetGrain<IPipelineStageGrain>(GrainKeys.Stage(name, stage, direction));
}
