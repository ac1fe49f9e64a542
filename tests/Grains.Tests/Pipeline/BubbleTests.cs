using Krewe.Grains.Interfaces.Pipeline;
using Krewe.Model.Pipeline;
using Xunit;

namespace Krewe.Grains.Tests.Pipeline;

/// <summary>
/// The bubble of a run on four silos of equal speed against that of the simulator with the same operation times.
/// </summary>
public class BubbleTests(ITestOutputHelper output)
{
    private const int MicroBatches = 8;
    private const int Steps = 6;

    [Theory]
    [InlineData(PipelineMethod.OneForwardOneBackward)]
    [InlineData(PipelineMethod.ZeroBubble)]
    [InlineData(PipelineMethod.DualPipe)]
    [InlineData(PipelineMethod.DualPipeV)]
    public async Task The_measured_bubble_is_the_simulated_one(PipelineMethod method)
    {
        // Time is no gate: other tests run beside this one and share its cores.
        Assert.SkipUnless(
            Environment.GetEnvironmentVariable("KREWE_TIMING") == "1",
            "measures time: set KREWE_TIMING=1 on a quiet machine, or run the benchmark of the same name");
        await using PacedPipeline pipeline = await PacedPipeline.DenseAsync(method, TimeSpan.FromMilliseconds(30));

        IReadOnlyList<StepTimeline> timelines = await pipeline.RunAsync(method, MicroBatches, Steps);

        var schedule = PipelineSchedule.Create(method, PacedPipeline.Ranks, MicroBatches);
        // Whatever else the machine does can only lengthen a step: the shortest one was disturbed least.
        StepTimeline best = timelines.MinBy(timeline => timeline.ToSchedule().Makespan)!;
        StageTimes times = pipeline.TimesOf([best]);
        double simulated = ScheduleSimulator.Run(schedule, times).BubbleShare;
        double fused = ScheduleSimulator.Run(schedule, times with { OverlappedBlocks = null }).BubbleShare;
        double measured = ScheduleSimulation.Of(best.ToSchedule()).BubbleShare;
        output.WriteLine($"{times}");
        output.WriteLine("idle of each step: " + string.Join(' ', timelines.Select(
            timeline => $"{ScheduleSimulation.Of(timeline.ToSchedule()).BubbleShare:P2}")));
        output.WriteLine($"{method.Name()}: idle {measured:P2}, simulated {simulated:P2}, one operation after the other {fused:P2}");
        // 10 %, or one point of the step where the idle share is a few points itself: the benchmark takes medians.
        double tolerance = Math.Max(0.1 * simulated, 0.01);
        Assert.InRange(measured, simulated - tolerance, simulated + tolerance);
    }
}
