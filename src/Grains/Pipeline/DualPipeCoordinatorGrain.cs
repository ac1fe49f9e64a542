using Krewe.Model.Pipeline;
using Orleans.Concurrency;

namespace Krewe.Grains.Pipeline;

/// <inheritdoc cref="IDualPipeCoordinatorGrain"/>
[GrainType("krewe.coordinator"), Orleans.Placement.PreferLocalPlacement, Reentrant, KeepAlive]
public sealed class DualPipeCoordinatorGrain : Grain, IDualPipeCoordinatorGrain
{
    private PipelineSchedule? _schedule;
    private StepTimeline? _timeline;

    /// <inheritdoc/>
    public async Task<StepOutcome> RunStepAsync(StepOrder order)
    {
        PipelineSchedule schedule = ScheduleOf(order.Layout, order.Batch.Length);
        var run = new StepRun(GrainFactory, this.GetPrimaryKeyString(), schedule, order);
        StepOutcome outcome = await run.RunAsync();
        _timeline = run.Timeline();
        return outcome;
    }

    /// <inheritdoc/>
    public Task<StepTimeline?> TimelineAsync() => Task.FromResult(_timeline);

    private PipelineSchedule ScheduleOf(PipelineLayout layout, int microBatches)
    {
        if (_schedule is null || _schedule.Method != layout.Method || _schedule.Ranks != layout.Ranks
            || _schedule.MicroBatches != microBatches)
        {
            _schedule = PipelineSchedule.Create(layout.Method, layout.Ranks, microBatches);
        }

        return _schedule;
    }
}
