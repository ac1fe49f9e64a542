using System.Text.Json.Nodes;
using Krewe.Model.Pipeline;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Pipeline;

/// <summary>Operation lists: those of the reference, the rules of each method, numbers that no schedule fits.</summary>
public class PipelineScheduleTests
{
    public static TheoryData<PipelineMethod, int, int> Golden() => new()
    {
        { PipelineMethod.DualPipe, 2, 4 },
        { PipelineMethod.DualPipe, 4, 8 },
        { PipelineMethod.DualPipe, 8, 16 },
        { PipelineMethod.DualPipeV, 2, 4 },
        { PipelineMethod.DualPipeV, 4, 8 },
        { PipelineMethod.DualPipeV, 8, 16 },
    };

    [Theory, MemberData(nameof(Golden))]
    public void The_lists_are_those_of_the_reference(PipelineMethod method, int ranks, int microBatches)
    {
        JsonNode golden = JsonNode.Parse(File.ReadAllText(Path.Combine(TestData.GoldenFolder, "schedules.json")))!;
        string[][] expected =
        [
            .. golden[method.Name()]![$"P{ranks}_M{microBatches}"]!.AsArray()
                .Select(rank => rank!.AsArray().Select(op => (string)op!).ToArray()),
        ];

        PipelineSchedule schedule = PipelineSchedule.Create(method, ranks, microBatches);

        Assert.Equal(expected.Length, schedule.Ops.Count);
        for (int rank = 0; rank < ranks; rank++)
        {
            Assert.Equal(expected[rank], schedule.Ops[rank].Select(op => op.ToString()));
            Assert.Equal(schedule.Ops[rank], expected[rank].Select(PipelineOp.Parse));
        }
    }

    [Theory]
    [InlineData(PipelineMethod.Sequential, "F0.0 B0.0 F0.1 B0.1 F0.2 B0.2", "F0.0 B0.0 F0.1 B0.1 F0.2 B0.2")]
    [InlineData(PipelineMethod.OneForwardOneBackward, "F0.0 F0.1 B0.0 F0.2 B0.1 B0.2", "F0.0 B0.0 F0.1 B0.1 F0.2 B0.2")]
    [InlineData(
        PipelineMethod.ZeroBubble, "F0.0 F0.1 I0.0 W0.0 F0.2 I0.1 W0.1 I0.2 W0.2",
        "F0.0 I0.0 F0.1 I0.1 W0.0 F0.2 I0.2 W0.1 W0.2")]
    public void Two_ranks_of_one_direction(PipelineMethod method, string first, string second)
    {
        PipelineSchedule schedule = PipelineSchedule.Create(method, ranks: 2, microBatches: 3);

        Assert.Equal([first, second], schedule.Ops.Select(ops => string.Join(' ', ops)));
    }

    [Fact]
    public void The_eight_steps_of_eight_ranks_and_twenty_micro_batches()
    {
        int[][] expected =
        [
            [6, 1, 3, 3, 3, 1, 3, 1], [4, 2, 2, 4, 2, 2, 2, 2], [2, 3, 1, 5, 1, 3, 1, 3], [0, 4, 0, 6, 0, 4, 0, 4],
        ];
        for (int depth = 0; depth < 4; depth++)
        {
            var steps = DualPipeSteps.Of(depth, half: 4, perPhase: 10);
            int[] actual =
            [
                steps.NF0, steps.NF0F1, steps.NB1W1F1, steps.NF0B1F1B0,
                steps.NB1F1B0, steps.NB1B0, steps.NWB0, steps.NW,
            ];
            Assert.Equal(expected[depth], actual);
        }
    }

    [Theory]
    [InlineData(PipelineMethod.Sequential, 4, 3)]
    [InlineData(PipelineMethod.OneForwardOneBackward, 4, 3)]
    [InlineData(PipelineMethod.DualPipe, 6, 12)]
    [InlineData(PipelineMethod.DualPipeV, 3, 7)]
    public void Every_stage_has_its_rank_and_every_micro_batch_its_slot(
        PipelineMethod method, int ranks, int microBatches)
    {
        PipelineSchedule schedule = PipelineSchedule.Create(method, ranks, microBatches);
        var stages = new HashSet<(int, int)>();
        var slots = new HashSet<int>();
        for (int rank = 0; rank < ranks; rank++)
        {
            for (int chunk = 0; chunk < schedule.Chunks; chunk++)
            {
                (int direction, int stage) = schedule.StageOf(rank, chunk);
                Assert.True(stages.Add((direction, stage)));
                Assert.Equal(rank, schedule.RankOf(direction, stage));
                Assert.Equal(chunk, schedule.ChunkOf(direction, stage));
            }
        }

        for (int direction = 0; direction < schedule.Directions; direction++)
        {
            for (int m = 0; m < schedule.MicroBatchesPerDirection; m++)
            {
                Assert.True(slots.Add(schedule.SlotOf(direction, m)));
            }
        }

        Assert.Equal(schedule.Directions * schedule.Stages, stages.Count);
        Assert.Equal(Enumerable.Range(0, microBatches), slots.Order());
    }

    [Theory]
    [InlineData(PipelineMethod.DualPipe, 7, 20, "even number of ranks, not 7: use 8")]
    [InlineData(PipelineMethod.DualPipe, 0, 20, "at least 2 ranks, not 0")]
    [InlineData(PipelineMethod.DualPipe, 8, 21, "even number of micro-batches, half of them for each direction, not 21")]
    [InlineData(PipelineMethod.DualPipe, 8, 14, "dualpipe over 8 ranks needs at least 16 micro-batches")]
    [InlineData(PipelineMethod.DualPipeV, 4, 7, "dualpipev over 4 ranks needs at least 8 micro-batches")]
    [InlineData(PipelineMethod.OneForwardOneBackward, 0, 4, "1f1b needs at least 1 rank, not 0")]
    [InlineData(PipelineMethod.ZeroBubble, 2, 0, "zb1p needs at least 1 micro-batch, not 0")]
    [InlineData((PipelineMethod)9, 2, 4, "no pipeline method 9")]
    public void Numbers_that_do_not_fit_are_refused(PipelineMethod method, int ranks, int microBatches, string says)
    {
        KreweException fault = Assert.Throws<KreweException>(() => PipelineSchedule.Create(method, ranks, microBatches));
        Assert.Contains(says, fault.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', fault.Message);
    }

    [Theory]
    [InlineData("2 operation lists, not 1", "F0.0")]
    [InlineData("has no F1.0: chunks go to 0", "F0.0", "F1.0")]
    [InlineData("has no B0.3: chunks go to 0, micro-batches to 2", "F0.0", "B0.3")]
    public void Lists_that_do_not_fit_are_refused(string says, params string[] ranks)
    {
        IReadOnlyList<PipelineOp>[] ops = [.. ranks.Select(op => (IReadOnlyList<PipelineOp>)[PipelineOp.Parse(op)])];
        Assert.Contains(
            says,
            Assert.Throws<KreweException>(() =>
                new PipelineSchedule(PipelineMethod.OneForwardOneBackward, ranks: 2, microBatches: 3, ops)).Message,
            StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("")]
    [InlineData("X0.1")]
    [InlineData("F0")]
    [InlineData("F0.-1")]
    [InlineData("F2.1")]
    [InlineData("F0. 1")]
    [InlineData("F0.0|F1.0")]
    [InlineData("F0.0|B0.0")]
    [InlineData("F0.0|B1.0|W0.0")]
    public void Other_texts_are_no_operations(string text) =>
        Assert.Contains(
            "is no pipeline operation", Assert.Throws<KreweException>(() => PipelineOp.Parse(text)).Message,
            StringComparison.Ordinal);

    [Fact]
    public void Methods_go_by_name()
    {
        Assert.All(Enum.GetValues<PipelineMethod>(), method => Assert.Equal(method, PipelineMethods.Parse(method.Name())));
        Assert.Equal(PipelineMethod.OneForwardOneBackward, PipelineMethods.Parse("1F1B"));
        Assert.Contains(
            "known: sequential, 1f1b, zb1p, dualpipe, dualpipev",
            Assert.Throws<KreweException>(() => PipelineMethods.Parse("gpipe")).Message, StringComparison.Ordinal);
    }
}
