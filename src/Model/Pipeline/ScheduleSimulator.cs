namespace Krewe.Model.Pipeline;

/// <summary>Runs a schedule on paper.</summary>
public static class ScheduleSimulator
{
    /// <summary>
    /// Starts each operation when its rank is free and its inputs are there. F needs the previous stage's F of the
    /// micro-batch, B and I need the next stage's B or I and the stage's own F, W needs its I.
    /// </summary>
    /// <param name="schedule">The schedule.</param>
    /// <param name="times">How long things take, how many results fit between two stages; defaults for null.</param>
    /// <exception cref="KreweException">
    /// The ranks wait for each other forever; the message names a rank, its operation and what that waits for.
    /// </exception>
    public static ScheduleSimulation Run(PipelineSchedule schedule, StageTimes? times = null)
    {
        times ??= new();
        times.ThrowIfInvalid(schedule.Stages);
        if (times.OverlappedBlocks is { } blocks)
        {
            return ScheduleSimulation.Of(new OverlappedRun(schedule, times, blocks).Run());
        }

        var run = new SimulatedRun(schedule, times);
        bool progress;
        do
        {
            progress = false;
            for (int rank = 0; rank < schedule.Ranks; rank++)
            {
                while (run.TryAdvance(rank))
                {
                    progress = true;
                }
            }
        }
        while (progress);

        run.ThrowIfStuck();
        return ScheduleSimulation.Of(new([.. run.Done]));
    }
}
