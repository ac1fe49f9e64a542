using Krewe.Grains.Interfaces.Pipeline;
using Krewe.Model.Pipeline;
using Xunit;

namespace Krewe.Grains.Tests.Pipeline;

/// <summary>A network that delays every tensor by as long as the experts compute, which DualPipe's pairs hide in part.</summary>
public class OverlapTests(ITestOutputHelper output)
{
    private const int MicroBatches = 16;
    private const int Steps = 2;

    private static readonly TimeSpan _experts = TimeSpan.FromMilliseconds(14);

    [Fact]
    public async Task A_pair_hides_most_of_what_its_tensors_wait_for()
    {
        // Time is no gate: other tests run beside this one and share its cores.
        Assert.SkipUnless(
            Environment.GetEnvironmentVariable("KREWE_TIMING") == "1",
            "measures time: set KREWE_TIMING=1 on a quiet machine, or run the benchmark of the same name");
        (double step, (double Forward, double Pair) times) = await StepAsync(TimeSpan.Zero);
        (double delayed, (double Forward, double Pair) late) = await StepAsync(_experts);

        double forward = (late.Forward - times.Forward) / _experts.TotalSeconds;
        double pair = (late.Pair - times.Pair) / _experts.TotalSeconds;
        output.WriteLine(
            $"a forward alone gets longer by {forward:F2} delays, a pair by {pair:F2}; a step takes {step:F3} s, delayed " +
            $"{delayed:F3} s: {delayed / step:F3}");
        // Dispatch and combine of the forward, and of the backward: four delays.
        Assert.InRange(pair, -1, 2.5);
    }

    /// <summary>The shortest of a few steps: whatever else the machine does only lengthens them.</summary>
    private static async Task<(double Seconds, (double Forward, double Pair) Times)> StepAsync(TimeSpan delay)
    {
        await using PacedPipeline pipeline = await PacedPipeline.ExpertsAsync(_experts, delay);
        IReadOnlyList<StepTimeline> timelines = await pipeline.RunAsync(PipelineMethod.DualPipe, MicroBatches, Steps);
        StepTimeline best = timelines.MinBy(timeline => timeline.ToSchedule().Makespan)!;
        return (best.ToSchedule().Makespan, PacedPipeline.Durations([best]));
    }
}
