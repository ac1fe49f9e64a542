namespace Krewe.Model.Pipeline;

/// <summary>
/// One entry of a rank's list: a single task, or a forward and a backward of different chunks that overlap, written
/// <c>F1.1|B0.0</c>.
/// </summary>
/// <param name="First">The task; of a pair the forward.</param>
/// <param name="Second">The backward of a pair, else null.</param>
public readonly record struct PipelineOp(PipelineTask First, PipelineTask? Second = null)
{
    /// <summary>True for an overlapped forward and backward.</summary>
    public bool IsPair => Second is not null;

    /// <summary>The one or two tasks, the forward of a pair first.</summary>
    public IEnumerable<PipelineTask> Tasks => Second is { } second ? [First, second] : [First];

    /// <summary>The notation; the tasks of a pair are joined by a bar.</summary>
    public override string ToString() => Second is { } second ? $"{First}|{second}" : First.ToString();

    /// <summary>Reads what <see cref="ToString"/> writes.</summary>
    /// <exception cref="KreweException">It is something else, or no pair of forward and whole backward.</exception>
    public static PipelineOp Parse(string text)
    {
        string[] parts = text.Split('|');
        if (parts.Length == 1)
        {
            return new(PipelineTask.Parse(text));
        }

        (PipelineTask first, PipelineTask second) = (PipelineTask.Parse(parts[0]), PipelineTask.Parse(parts[1]));
        return parts.Length == 2
            && (first.Work, second.Work) == (PipelineWork.Forward, PipelineWork.Backward)
            && first.Chunk != second.Chunk
            ? new(first, second)
            : throw new KreweException(
                $"'{text}' is no pipeline operation: a pair is a forward and a backward of different chunks " +
                "(F1.1|B0.0)");
    }
}
