using Krewe.Model.Pipeline;

namespace Krewe.Silo.Commands;

/// <summary>
/// A Gantt chart in plain characters: one line per rank, time from left to right. An operation is its letter, in lower
/// case for chunk 1, and its micro-batch where there is room; <c>fB</c> is an overlapped pair.
/// </summary>
internal static class GanttText
{
    private const char Idle = '.', Going = '-';

    /// <summary>The chart's lines.</summary>
    /// <param name="timeline">The timeline.</param>
    /// <param name="width">Columns that a line may take.</param>
    public static IEnumerable<string> Draw(ScheduleTimeline timeline, int width)
    {
        int name = $"rank {timeline.Ranks.Count - 1} ".Length;
        int columns = Math.Max(width - name - 1, 20);
        double makespan = timeline.Makespan;
        double scale = makespan > 0 ? columns / makespan : 0;
        // Whole columns per unit of time keep equal operations equally long.
        scale = scale >= 1 ? Math.Floor(scale) : scale;
        for (int rank = 0; rank < timeline.Ranks.Count; rank++)
        {
            char[] line = new char[(int)Math.Round(makespan * scale)];
            Array.Fill(line, Idle);
            foreach (TimedOp op in timeline.Ranks[rank])
            {
                int start = (int)Math.Round((op.Start - timeline.Start) * scale);
                int end = (int)Math.Round((op.End - timeline.Start) * scale);
                Fill(line.AsSpan(start, Math.Min(end, line.Length) - start), op.Op);
            }

            yield return $"{$"rank {rank}".PadRight(name)}{new string(line)}";
        }

        yield return "F forward, B backward, I input gradient, W weight gradient, fB a pair;";
        yield return "then the micro-batch; lower case: chunk 1";
    }

    private static void Fill(Span<char> box, PipelineOp op)
    {
        string letters = string.Concat(op.Tasks.Select(Letter));
        string full = string.Concat(op.Tasks.Select(task => $"{Letter(task)}{task.MicroBatch}"));
        string label = full.Length <= box.Length ? full : letters;
        box.Fill(Going);
        label.AsSpan(0, Math.Min(label.Length, box.Length)).CopyTo(box);
    }

    private static char Letter(PipelineTask task)
    {
        char letter = task.ToString()[0];
        return task.Chunk == 0 ? letter : char.ToLowerInvariant(letter);
    }
}
