using System.Globalization;
using System.Text;

namespace Krewe.Model.Pipeline;

/// <summary>
/// Draws a timeline as an SVG: one lane per rank, one box per operation, a pair as two halves. It has no background and
/// reads on light and dark pages.
/// </summary>
public static class GanttSvg
{
    private const double LaneLeft = 64, LaneWidth = 1040, LaneHeight = 26, LaneGap = 6, LanesTop = 64;
    private const double FiguresWidth = 110, AxisHeight = 40;

    /// <summary>Boxes narrower than this carry no number.</summary>
    private const double NumberWidth = 9;

    /// <summary>The drawing.</summary>
    /// <param name="timeline">Simulated or measured; its earliest start is drawn at 0.</param>
    /// <param name="title">Line above the drawing.</param>
    /// <param name="unit">Unit of its times, for the axis: <c>s</c>; empty for a simulation's.</param>
    public static string Draw(ScheduleTimeline timeline, string title, string unit = "")
    {
        ScheduleSimulation figures = ScheduleSimulation.Of(timeline);
        double bottom = LanesTop + (timeline.Ranks.Count * (LaneHeight + LaneGap));
        string size = $"{N(LaneLeft + LaneWidth + FiguresWidth)} {N(bottom + AxisHeight)}";
        var svg = new StringBuilder();
        svg.Append($"""
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" font-family="sans-serif" font-size="11">
            <style>
            .g{"{"}fill:{GanttColours.Text}{"}"} .n{"{"}text-anchor:middle;font-size:10px{"}"}
            .l{"{"}stroke:{GanttColours.Line};stroke-opacity:.35{"}"}
            .lane{"{"}fill:{GanttColours.Line};fill-opacity:.12{"}"}
            </style>
            <text class="g" x="{N(LaneLeft)}" y="20" font-size="14" font-weight="bold">{Escape(title)}</text>

            """);
        Legend(svg, timeline);
        Axis(svg, figures.Makespan, unit, bottom);
        double start = timeline.Start;
        double scale = figures.Makespan > 0 ? LaneWidth / figures.Makespan : 0;
        for (int rank = 0; rank < timeline.Ranks.Count; rank++)
        {
            double top = LanesTop + (rank * (LaneHeight + LaneGap));
            double middle = top + (LaneHeight / 2) + 4;
            Text(svg, LaneLeft - 8, middle, $"rank {rank}", "end");
            svg.Append($"""<rect class="lane" {Box(LaneLeft, top, LaneWidth, LaneHeight)}/>""").Append('\n');
            foreach (TimedOp op in timeline.Ranks[rank])
            {
                TimedOp shifted = op with { Start = op.Start - start, End = op.End - start };
                Operation(svg, shifted, top, scale, unit);
            }

            Text(svg, LaneLeft + LaneWidth + 8, middle, $"idle {Short(figures.Bubbles[rank])}{Spaced(unit)}", "start");
        }

        return svg.Append("</svg>\n").ToString();
    }

    private static void Operation(StringBuilder svg, TimedOp op, double top, double scale, string unit)
    {
        double left = LaneLeft + (op.Start * scale), width = op.Duration * scale;
        double height = LaneHeight / op.Op.Tasks.Count();
        svg.Append($"<g><title>{op.Op}, {Short(op.Start)} to {Short(op.End)}{Escape(Spaced(unit))}</title>");
        foreach (PipelineTask task in op.Op.Tasks)
        {
            // A hair of the lane stays visible between neighbours.
            string fill = GanttColours.Of(task.Work, task.Chunk);
            svg.Append($"""<rect {Box(left + 0.4, top, Math.Max(width - 0.8, 0.3), height)} fill="{fill}"/>""");
            if (width >= NumberWidth * Math.Max(1, task.MicroBatch.ToString(CultureInfo.InvariantCulture).Length / 1.5))
            {
                string at = $"""x="{N(left + (width / 2))}" y="{N(top + (height / 2) + 3.5)}" """;
                string number = GanttColours.Number(task.Chunk);
                svg.Append($"""<text class="n" {at.TrimEnd()} fill="{number}">{task.MicroBatch}</text>""");
            }

            top += height;
        }

        svg.Append("</g>\n");
    }

    /// <summary>A sample of each kind of work that occurs, by chunk where there are two.</summary>
    private static void Legend(StringBuilder svg, ScheduleTimeline timeline)
    {
        PipelineTask[] tasks = [.. timeline.Ranks.SelectMany(ops => ops).SelectMany(op => op.Op.Tasks)];
        bool chunks = tasks.Any(task => task.Chunk != 0);
        double left = LaneLeft;
        foreach ((PipelineWork work, int chunk) in tasks.Select(task => (task.Work, task.Chunk)).Distinct().Order())
        {
            string label = GanttColours.Label(work) + (chunks ? $" {chunk}" : "");
            svg.Append($"""<rect {Box(left, 32, 14, 14)} fill="{GanttColours.Of(work, chunk)}"/>""");
            Text(svg, left + 19, 43, label, "start");
            left += 38 + (label.Length * 6.2);
        }
    }

    private static void Axis(StringBuilder svg, double makespan, string unit, double bottom)
    {
        double step = Step(makespan / 12);
        for (double time = 0; step > 0 && time <= makespan; time += step)
        {
            double x = LaneLeft + (time / makespan * LaneWidth);
            string line = $"""x1="{N(x)}" x2="{N(x)}" y1="{N(LanesTop - 4)}" y2="{N(bottom)}" """;
            svg.Append($"""<line class="l" {line.TrimEnd()}/>""");
            Text(svg, x, bottom + 14, Short(time), "middle");
        }

        string caption = unit.Length > 0 ? $"time, {unit}" : "time";
        Text(svg, LaneLeft + (LaneWidth / 2), bottom + 31, caption, "middle");
    }

    /// <summary>The round number 1, 2 or 5 times a power of ten that is not below <paramref name="least"/>.</summary>
    private static double Step(double least)
    {
        if (least <= 0)
        {
            return 0;
        }

        double power = Math.Pow(10, Math.Floor(Math.Log10(least)));
        return power * (least <= power ? 1 : least <= 2 * power ? 2 : least <= 5 * power ? 5 : 10);
    }

    private static void Text(StringBuilder svg, double x, double y, string text, string anchor) =>
        svg.Append($"""<text class="g" x="{N(x)}" y="{N(y)}" text-anchor="{anchor}">{Escape(text)}</text>""")
            .Append('\n');

    private static string Box(double x, double y, double width, double height) =>
        $"""x="{N(x)}" y="{N(y)}" width="{N(width)}" height="{N(height)}" """.TrimEnd();

    private static string N(double value) => value.ToString("0.##", CultureInfo.InvariantCulture);

    private static string Short(double value) => value.ToString("G4", CultureInfo.InvariantCulture);

    private static string Spaced(string unit) => unit.Length > 0 ? $" {unit}" : "";

    private static string Escape(string text) => System.Security.SecurityElement.Escape(text);
}
