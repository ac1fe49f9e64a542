using Krewe.Grains.Interfaces.Pipeline;
using Krewe.Model.Pipeline;

namespace Krewe.Silo.Commands.Train;

/// <summary>The last complete step of a run as a Gantt chart.</summary>
internal static class MeasuredSchedule
{
    /// <summary>Asks the run's coordinator and draws; false where no step was run.</summary>
    /// <param name="grains">The cluster, after the run.</param>
    /// <param name="run">Name of the run.</param>
    /// <param name="file">The SVG.</param>
    public static async Task<bool> TryDrawAsync(IGrainFactory grains, string run, string file)
    {
        if (await grains.GetGrain<IDualPipeCoordinatorGrain>(run).TimelineAsync() is not { } measured)
        {
            return false;
        }

        ScheduleTimeline timeline = measured.ToSchedule();
        int microBatches = timeline.Ranks[0].SelectMany(op => op.Op.Tasks)
            .Where(task => task.Work == PipelineWork.Forward)
            .DistinctBy(task => measured.Method == PipelineMethod.DualPipeV ? (0, task.MicroBatch) : (task.Chunk, task.MicroBatch))
            .Count();
        string title = $"run {run}, step {measured.Step + 1}, {measured.Method.Name()}, {timeline.Ranks.Count} " +
            $"rank{(timeline.Ranks.Count == 1 ? "" : "s")}, {microBatches} micro-batch{(microBatches == 1 ? "" : "es")}: " +
            $"{ScheduleSimulation.Of(timeline).BubbleShare:P1} idle";
        bool isShort = timeline.Makespan < 1;
        SvgFile.Write(file, GanttSvg.Draw(isShort ? Scaled(timeline, 1e3) : timeline, title, isShort ? "ms" : "s"));
        return true;
    }

    private static ScheduleTimeline Scaled(ScheduleTimeline timeline, double factor) => new([.. timeline.Ranks.Select(
        ops => (IReadOnlyList<TimedOp>)[.. ops.Select(op => op with { Start = op.Start * factor, End = op.End * factor })])]);
}
