using Krewe.Model.Pipeline;
using Xunit;

namespace Krewe.Model.Tests.Pipeline;

/// <summary>Simulated figures against the published ones, and what no schedule may break.</summary>
public class ScheduleSimulatorTests
{
    [Theory]
    [InlineData(PipelineMethod.DualPipe, 4, 8, 2)]
    [InlineData(PipelineMethod.DualPipe, 8, 20, 6)]
    [InlineData(PipelineMethod.DualPipe, 8, 64, 6)]
    [InlineData(PipelineMethod.DualPipe, 16, 32, 14)]
    [InlineData(PipelineMethod.DualPipeV, 2, 8, 2)]
    [InlineData(PipelineMethod.DualPipeV, 4, 8, 6)]
    [InlineData(PipelineMethod.DualPipeV, 8, 21, 14)]
    [InlineData(PipelineMethod.OneForwardOneBackward, 4, 8, 9)]
    [InlineData(PipelineMethod.OneForwardOneBackward, 8, 20, 21)]
    [InlineData(PipelineMethod.ZeroBubble, 4, 8, 3)]
    [InlineData(PipelineMethod.ZeroBubble, 8, 20, 7)]
    [InlineData(PipelineMethod.Sequential, 4, 5, 45)]
    [InlineData(PipelineMethod.Sequential, 1, 5, 0)]
    public void Bubble_and_memory_are_the_published_ones(PipelineMethod method, int ranks, int microBatches, double bubble)
    {
        PipelineSchedule schedule = PipelineSchedule.Create(method, ranks, microBatches);
        ScheduleSimulation simulation = ScheduleSimulator.Run(schedule);

        Assert.Equal(bubble, PublishedFigures.Bubble(schedule, new()));
        Assert.All(simulation.Bubbles, idle => Assert.Equal(bubble, idle));
        int live = PublishedFigures.PeakLiveMicroBatches(schedule);
        Assert.Equal(live, simulation.PeakLiveMicroBatches.Max());
        if (schedule.Chunks == 2)
        {
            Assert.All(simulation.PeakLiveMicroBatches, peak => Assert.Equal(live, peak));
            Assert.Equal(schedule.Stages + 1, live);
        }
    }

    [Fact]
    public void Twenty_micro_batches_on_eight_ranks_take_66()
    {
        ScheduleSimulation simulation = ScheduleSimulator.Run(PipelineSchedule.Create(PipelineMethod.DualPipe, 8, 20));

        Assert.Equal(66, simulation.Makespan);
        Assert.Equal([1, 2, 3, 4, 4, 3, 2, 1], simulation.PeakPendingWeights);
        Assert.Equal(6 / 66d, simulation.BubbleShare, 12);
    }

    [Theory]
    [InlineData(PipelineMethod.OneForwardOneBackward)]
    [InlineData(PipelineMethod.ZeroBubble)]
    [InlineData(PipelineMethod.DualPipe)]
    [InlineData(PipelineMethod.DualPipeV)]
    public void Overlapped_operations_keep_as_little_alive_and_take_no_longer(PipelineMethod method)
    {
        foreach (int microBatches in (int[])[8, 20, 64])
        {
            PipelineSchedule schedule = PipelineSchedule.Create(method, 4, microBatches);
            ScheduleSimulation apart = ScheduleSimulator.Run(schedule);
            foreach (int blocks in (int[])[1, 2, 100])
            {
                ScheduleSimulation overlapped = ScheduleSimulator.Run(schedule, new() { OverlappedBlocks = blocks });

                Assert.InRange(overlapped.Makespan, 3 * microBatches, apart.Makespan + 1e-9);
                Assert.Equal(apart.PeakLiveMicroBatches, overlapped.PeakLiveMicroBatches);
            }
        }
    }

    [Fact]
    public void A_gradient_is_handed_on_before_the_weights_which_fill_the_wait()
    {
        PipelineSchedule schedule = Handmade(["F0.0 F0.1 B0.0 B0.1", "F0.0 B0.0 F0.1 B0.1"]);

        ScheduleSimulation simulation = ScheduleSimulator.Run(schedule, new() { OverlappedBlocks = 1 });

        // Rank 1: F0 1-2, I0 2-3, W0 3-4, F1 4-5, I1 5-6, W1 6-7. Rank 0 has I0 at 3 and I1 at 6, and fills 4-5 with W0.
        Assert.Equal([("F0.0", 0d, 1d), ("F0.1", 1, 2), ("B0.0", 3, 5), ("B0.1", 6, 8)],
            simulation.Timeline.Ranks[0].Select(op => (op.Op.ToString(), op.Start, op.End)));
        Assert.Equal(8, simulation.Makespan);
    }

    [Fact]
    public void While_a_call_is_on_its_way_the_device_goes_on_with_what_waits()
    {
        PipelineSchedule schedule = Handmade(["F0.0 F0.1 B0.0 B0.1", "F0.0 B0.0 F0.1 B0.1"]);
        var times = new StageTimes { OverlappedBlocks = 1, CallDelay = 0.25 };

        ScheduleSimulation simulation = ScheduleSimulator.Run(schedule, times);

        // Rank 1 has F0 at 1.25: F0 to 2.25, heard of at 2.5, I0 2.5-3.5. At 3.75 it hears of that, and begins with W0.
        Assert.Equal([("F0.0", 1.25, 2.5), ("B0.0", 2.5, 5)],
            simulation.Timeline.Ranks[1].Take(2).Select(op => (op.Op.ToString(), op.Start, op.End)));
    }

    [Fact]
    public void Operations_that_overlap_share_the_time_of_their_rank()
    {
        var op = PipelineOp.Parse("F1.1|B0.0");

        Assert.Equal(new(op, 1, 3), TimedOp.After(op, 0, [(1, 2), (1.5, 3)]));
        Assert.Equal(new(op, 2, 4), TimedOp.After(op, 1.5, [(1, 2), (2.5, 4)]));
        Assert.Equal(new(op, 5, 5), TimedOp.After(op, 5, [(1, 2), (2, 4)]));
    }

    [Fact]
    public void Live_micro_batches_fall_along_1f1b_and_stay_under_zero_bubble()
    {
        ScheduleSimulation oneForward = ScheduleSimulator.Run(
            PipelineSchedule.Create(PipelineMethod.OneForwardOneBackward, 4, 8));
        ScheduleSimulation zeroBubble = ScheduleSimulator.Run(PipelineSchedule.Create(PipelineMethod.ZeroBubble, 4, 8));

        Assert.Equal([4, 3, 2, 1], oneForward.PeakLiveMicroBatches);
        Assert.Equal([4, 4, 4, 4], zeroBubble.PeakLiveMicroBatches);
        Assert.Equal([0, 0, 0, 0], oneForward.PeakPendingWeights);
        Assert.Equal([1, 2, 3, 4], zeroBubble.PeakPendingWeights);
    }

    [Fact]
    public void With_other_times_the_formula_of_dualpipe_is_an_upper_figure()
    {
        PipelineSchedule schedule = PipelineSchedule.Create(PipelineMethod.DualPipe, 8, 20);
        var times = new StageTimes(F: 1, B: 2.2, I: 1.4, W: 0.8, FB: 2.8);

        ScheduleSimulation simulation = ScheduleSimulator.Run(schedule, times);

        Assert.Equal(7.8, PublishedFigures.Bubble(schedule, times), 9);
        Assert.Equal(6.0, simulation.Bubbles.Min(), 9);
        Assert.Equal(6.8, simulation.Bubble, 9);
    }

    [Fact]
    public void Scales_and_delays_count()
    {
        PipelineSchedule schedule = PipelineSchedule.Create(PipelineMethod.OneForwardOneBackward, 2, 1);
        var times = new StageTimes { StageScales = [1, 10], TransferDelay = 0.5 };

        ScheduleSimulation simulation = ScheduleSimulator.Run(schedule, times);

        // F 1, travel, F 10 and B 20 on rank 1, travel, B 2.
        Assert.Equal(
            [new TimedOp(PipelineOp.Parse("F0.0"), 0, 1), new TimedOp(PipelineOp.Parse("B0.0"), 32, 34)],
            simulation.Timeline.Ranks[0]);
        Assert.Equal([31, 4], simulation.Bubbles);
        var pair = PipelineOp.Parse("F0.0|B1.0");
        PipelineSchedule dual = PipelineSchedule.Create(PipelineMethod.DualPipe, 2, 4);
        Assert.Equal(2.4 * 21 / 3, (times with { FB = 2.4 }).Of(dual, 0, pair), 9);
    }

    [Fact]
    public void A_measured_timeline_gets_the_same_figures()
    {
        PipelineSchedule schedule = PipelineSchedule.Create(PipelineMethod.DualPipeV, 2, 4);
        ScheduleSimulation simulated = ScheduleSimulator.Run(schedule);
        var measured = new ScheduleTimeline(
        [
            .. simulated.Timeline.Ranks.Select(ops => (IReadOnlyList<TimedOp>)
                [.. ops.Select(op => op with { Start = 100 + (op.Start / 4), End = 100 + (op.End / 4) })]),
        ]);

        ScheduleSimulation figures = ScheduleSimulation.Of(measured);

        Assert.Equal(simulated.Makespan / 4, figures.Makespan);
        Assert.Equal(simulated.Bubbles.Select(idle => idle / 4), figures.Bubbles);
        Assert.Equal(simulated.PeakLiveMicroBatches, figures.PeakLiveMicroBatches);
    }

    public static TheoryData<PipelineMethod> Methods() => [.. Enum.GetValues<PipelineMethod>()];

    [Theory, MemberData(nameof(Methods))]
    public void Every_schedule_is_sound(PipelineMethod method)
    {
        foreach ((int ranks, int microBatches) in Sizes(method))
        {
            PipelineSchedule schedule = PipelineSchedule.Create(method, ranks, microBatches);
            for (int rank = 0; rank < ranks; rank++)
            {
                CheckOrder(schedule, rank);
            }

            ScheduleSimulation simulation = ScheduleSimulator.Run(schedule);
            Assert.All(simulation.PeakLiveMicroBatches, peak =>
                Assert.InRange(peak, 0, PublishedFigures.PeakLiveMicroBatches(schedule)));
            ScheduleSimulation bounded = ScheduleSimulator.Run(schedule, new() { BuffersPerEdge = 1 });
            Assert.True(bounded.Makespan >= simulation.Makespan);
            if (microBatches >= ranks)
            {
                Assert.All(simulation.Bubbles, idle => Assert.Equal(PublishedFigures.Bubble(schedule, new()), idle));
            }
        }
    }

    [Fact]
    public void A_deadlock_is_named()
    {
        PipelineSchedule stuck = Handmade(["F0.0 B0.0 F0.1 B0.1", "F0.1 F0.0 B0.0 B0.1"]);
        Assert.Equal(
            "the 1f1b schedule is stuck: rank 0 waits forever at operation 1, B0.0, for B or I of stage 1, direction 0, " +
            "micro-batch 0",
            Assert.Throws<KreweException>(() => ScheduleSimulator.Run(stuck)).Message);

        PipelineSchedule full = Handmade(["F0.0 F0.1 B0.0 B0.1", "F0.0 B0.0 F0.1 B0.1"]);
        _ = ScheduleSimulator.Run(full, new() { BuffersPerEdge = 1 });
        PipelineSchedule turned = Handmade(["F0.0 F0.1 F0.2 B0.0 B0.1 B0.2", "F0.2 F0.1 F0.0 B0.0 B0.1 B0.2"]);
        Assert.Contains(
            "give it more buffers",
            Assert.Throws<KreweException>(() => ScheduleSimulator.Run(turned, new() { BuffersPerEdge = 1 })).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public void Impossible_times_are_refused()
    {
        PipelineSchedule schedule = PipelineSchedule.Create(PipelineMethod.ZeroBubble, 2, 2);
        (StageTimes Times, string Says)[] cases =
        [
            (new(F: -1), "F of a schedule must be 0 or more and finite, not -1"),
            (new(FB: double.NaN), "FB"),
            (new() { TransferDelay = double.PositiveInfinity }, "transfer delay"),
            (new() { StageScales = [1] }, "needs 2 stage scales, not 1"),
            (new() { BuffersPerEdge = 0 }, "at least 1 buffer"),
            (new() { OverlappedBlocks = 0 }, "at least 1 block"),
            (new() { OverlappedBlocks = 1, BuffersPerEdge = 1 }, "leave one of them out"),
        ];
        Assert.All(cases, wrong => Assert.Contains(
            wrong.Says, Assert.Throws<KreweException>(() => ScheduleSimulator.Run(schedule, wrong.Times)).Message,
            StringComparison.Ordinal));
    }

    private static IEnumerable<(int Ranks, int MicroBatches)> Sizes(PipelineMethod method)
    {
        bool dual = method == PipelineMethod.DualPipe;
        int step = dual ? 2 : 1;
        for (int ranks = step; ranks <= 16; ranks += step)
        {
            int least = dual || method == PipelineMethod.DualPipeV ? 2 * ranks : 1;
            for (int microBatches = least; microBatches <= least + 24; microBatches += step)
            {
                yield return (ranks, microBatches);
            }
        }
    }

    /// <summary>Each micro-batch once in each chunk, F before B or I, I before W, each kind in order.</summary>
    private static void CheckOrder(PipelineSchedule schedule, int rank)
    {
        var next = new Dictionary<(PipelineWork, int), int>();
        var pending = new Queue<(int Chunk, int MicroBatch)>();
        foreach (PipelineTask task in schedule.Ops[rank].SelectMany(op => op.Tasks))
        {
            if (task.Work == PipelineWork.BackwardWeight)
            {
                Assert.Equal(pending.Dequeue(), (task.Chunk, task.MicroBatch));
                continue;
            }

            // B and I are one kind here: the gradients of a stage come in the order of micro-batches.
            (PipelineWork, int) kind = (task.YieldsGradient ? PipelineWork.Backward : task.Work, task.Chunk);
            Assert.Equal(next.GetValueOrDefault(kind), task.MicroBatch);
            next[kind] = task.MicroBatch + 1;
            if (task.YieldsGradient)
            {
                Assert.True(task.MicroBatch < next[(PipelineWork.Forward, task.Chunk)]);
            }

            if (task.Work == PipelineWork.BackwardInput)
            {
                pending.Enqueue((task.Chunk, task.MicroBatch));
            }
        }

        Assert.Empty(pending);
        Assert.Equal(2 * schedule.Chunks, next.Count);
        Assert.All(next.Values, count => Assert.Equal(schedule.MicroBatchesPerDirection, count));
    }

    private static PipelineSchedule Handmade(string[] ranks) => new(
        PipelineMethod.OneForwardOneBackward, ranks.Length,
        ranks[0].Split(' ').Count(op => op[0] == 'F'),
        [.. ranks.Select(ops => (IReadOnlyList<PipelineOp>)[.. ops.Split(' ').Select(PipelineOp.Parse)])]);
}
