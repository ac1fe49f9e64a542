using System.Xml.Linq;
using Krewe.Model.Pipeline;
using Xunit;

namespace Krewe.Model.Tests.Pipeline;

/// <summary>The drawing is sound XML and has every operation in its lane, inside the page.</summary>
public class GanttSvgTests
{
    private static readonly XNamespace Svg = "http://www.w3.org/2000/svg";

    [Theory]
    [InlineData(PipelineMethod.OneForwardOneBackward, 3, 5)]
    [InlineData(PipelineMethod.ZeroBubble, 4, 8)]
    [InlineData(PipelineMethod.DualPipe, 8, 20)]
    [InlineData(PipelineMethod.DualPipeV, 2, 4)]
    public void Every_operation_is_drawn(PipelineMethod method, int ranks, int microBatches)
    {
        PipelineSchedule schedule = PipelineSchedule.Create(method, ranks, microBatches);

        XElement svg = XElement.Parse(GanttSvg.Draw(ScheduleSimulator.Run(schedule).Timeline, "<a & b>", "ms"));

        XElement[] groups = [.. svg.Elements(Svg + "g")];
        Assert.Equal(
            schedule.Ops.SelectMany(ops => ops).Select(op => op.ToString()),
            groups.Select(group => group.Element(Svg + "title")!.Value.Split(',')[0]));
        Assert.Equal(
            schedule.Ops.SelectMany(ops => ops).Select(op => op.Tasks.Count()),
            groups.Select(group => group.Elements(Svg + "rect").Count()));
        double width = double.Parse(svg.Attribute("viewBox")!.Value.Split(' ')[2]);
        Assert.All(groups.Elements(Svg + "rect"), box =>
            Assert.InRange((double)box.Attribute("x")! + (double)box.Attribute("width")!, 0, width));
        string[] texts = [.. svg.Elements(Svg + "text").Select(text => text.Value)];
        Assert.Contains("<a & b>", texts);
        Assert.Contains("time, ms", texts);
        Assert.Equal(ranks, texts.Count(text => text.StartsWith("idle ", StringComparison.Ordinal)));
    }

    [Fact]
    public void A_measured_timeline_is_drawn_from_zero()
    {
        var op = PipelineOp.Parse("F0.0");
        var timeline = new ScheduleTimeline([[new TimedOp(op, 5000, 5001)], [], [new TimedOp(op, 5001, 5003)]]);

        string svg = GanttSvg.Draw(timeline, "measured", "s");

        Assert.Contains("<title>F0.0, 0 to 1 s</title>", svg, StringComparison.Ordinal);
        Assert.Contains("idle 3 s", svg, StringComparison.Ordinal);
    }

    [Fact]
    public void Nothing_to_draw_is_no_fault() =>
        _ = XElement.Parse(GanttSvg.Draw(new ScheduleTimeline([[], []]), "empty"));
}
