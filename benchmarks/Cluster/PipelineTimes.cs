using Krewe.Grains.Interfaces.Pipeline;
using Krewe.Grains.Tests.Pipeline;
using Krewe.Model.Pipeline;

namespace Krewe.Cluster;

/// <summary>Schedules on four silos of a set speed: their bubble, and what a slow network costs them.</summary>
internal static class PipelineTimes
{
    private static readonly PipelineMethod[] _methods =
        [PipelineMethod.OneForwardOneBackward, PipelineMethod.ZeroBubble, PipelineMethod.DualPipe, PipelineMethod.DualPipeV];

    public static async Task BubbleAsync(BenchmarkOptions options)
    {
        double others = await Machine.OthersDuringAsync(async () =>
        {
            foreach (int microBatches in (int[])[8, 20])
            {
                foreach (PipelineMethod method in _methods)
                {
                    await BubbleAsync(method, microBatches, options.Rounds);
                }
            }
        });
        Console.WriteLine($"other processes used {others:F2} cores");
    }

    public static async Task OverlapAsync(BenchmarkOptions options)
    {
        var experts = TimeSpan.FromMilliseconds(options.ExpertMilliseconds);
        double others = await Machine.OthersDuringAsync(async () =>
        {
            foreach (int microBatches in (int[])[16, 20, 32])
            {
                foreach (PipelineMethod method in (PipelineMethod[])[PipelineMethod.DualPipe, PipelineMethod.OneForwardOneBackward])
                {
                    (double without, (double Forward, double Pair) times, _) = await StepAsync(method, microBatches, experts, TimeSpan.Zero, options.Rounds);
                    (double delayed, (double Forward, double Pair) late, string tables) = await StepAsync(method, microBatches, experts, experts, options.Rounds);
                    Console.WriteLine(
                        $"{method.Name()}, {microBatches} micro-batches, {tables}: step {without:F3} s, every tensor delayed by " +
                        $"{experts.TotalMilliseconds} ms, which is the experts' forward, {delayed:F3} s: {delayed / without:F3}; F " +
                        $"{times.Forward * 1e3:F0} to {late.Forward * 1e3:F0}, F|B {times.Pair * 1e3:F0} to {late.Pair * 1e3:F0} ms");
                }
            }
        });
        Console.WriteLine($"medians of {options.Rounds} steps; other processes used {others:F2} cores");
    }

    private static async Task BubbleAsync(PipelineMethod method, int microBatches, int steps)
    {
        await using PacedPipeline pipeline = await PacedPipeline.DenseAsync(method, TimeSpan.FromMilliseconds(30));
        IReadOnlyList<StepTimeline> timelines = await pipeline.RunAsync(method, microBatches, steps);
        StageTimes times = pipeline.TimesOf(timelines);
        var schedule = PipelineSchedule.Create(method, PacedPipeline.Ranks, microBatches);
        double simulated = ScheduleSimulator.Run(schedule, times).BubbleShare;
        double apart = ScheduleSimulator.Run(schedule, times with { OverlappedBlocks = null }).BubbleShare;
        double[] measured = [.. timelines.Select(t => ScheduleSimulation.Of(t.ToSchedule()).BubbleShare)];
        double median = Machine.Median(measured);
        Console.WriteLine(
            $"{method.Name()}, {microBatches} micro-batches: idle {median:P2} (min {measured.Min():P2}, max " +
            $"{measured.Max():P2}, n={steps}), simulated {simulated:P2}: {median / simulated:F3}; one operation " +
            $"after the other {apart:P2}; last stage {times.StageScales![^1]:F3} of the others; F {times.F * 1e3:F1} ms, a call {times.CallDelay * 1e3:F2} ms");
    }

    private static async Task<(double Seconds, (double Forward, double Pair) Times, string Tables)> StepAsync(
        PipelineMethod method, int microBatches, TimeSpan experts, TimeSpan delay, int steps)
    {
        await using PacedPipeline pipeline = await PacedPipeline.ExpertsAsync(experts, delay);
        IReadOnlyList<StepTimeline> timelines = await pipeline.RunAsync(method, microBatches, steps);
        double seconds = Machine.Median(timelines.Select(timeline => timeline.ToSchedule().Makespan));
        string tables = $"embedding and head {(pipeline.Plan!.TableReplicas ? "with each direction" : "once")}";
        return (seconds, PacedPipeline.Durations(timelines), tables);
    }
}
