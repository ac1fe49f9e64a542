using System.Globalization;

namespace Krewe.Model.Pipeline;

/// <summary>What a rank does with one micro-batch; the letters are those of the operation lists.</summary>
public enum PipelineWork
{
    /// <summary>F: the stage's forward.</summary>
    Forward,

    /// <summary>B: the whole backward, weight gradients included.</summary>
    Backward,

    /// <summary>I: backward for the input alone; the weight gradients stay pending.</summary>
    BackwardInput,

    /// <summary>W: the weight gradients that an earlier I of the same micro-batch left pending.</summary>
    BackwardWeight,
}

/// <summary>One piece of work on one rank, written <c>F0.3</c>.</summary>
/// <param name="Work">What is done.</param>
/// <param name="Chunk">
/// Which of the rank's stages does it: the direction under DualPipe, the branch of the V under DualPipeV (0 down, 1 up
/// again), else 0.
/// </param>
/// <param name="MicroBatch">Number of the micro-batch within its direction, from 0.</param>
public readonly record struct PipelineTask(PipelineWork Work, int Chunk, int MicroBatch)
{
    private const string Letters = "FBIW";

    /// <summary>A backward that yields the gradient of the stage's input: B or I.</summary>
    public bool YieldsGradient => Work is PipelineWork.Backward or PipelineWork.BackwardInput;

    /// <summary>
    /// Work that adds weight gradients, after which the micro-batch's activations are no longer needed: B or W.
    /// </summary>
    public bool FreesActivations => Work is PipelineWork.Backward or PipelineWork.BackwardWeight;

    /// <summary>
    /// Whether this task waits for one of the operation before to end, where a rank begins an operation while the one
    /// before is under way. Tasks of a micro-batch follow each other; a forward takes no activations before those of the
    /// operation before were freed, so that no more are alive than the schedule says; weight gradients keep their order.
    /// </summary>
    /// <param name="earlier">A task of the operation before on the same rank.</param>
    public bool StartsAfter(PipelineTask earlier) =>
        (Chunk, MicroBatch) == (earlier.Chunk, earlier.MicroBatch)
        || (Work == PipelineWork.Forward && earlier.FreesActivations)
        || (Work == PipelineWork.BackwardWeight && WeightsFollow(earlier));

    /// <summary>
    /// Whether the weight gradients of this task are added behind those of a task of the operation before: sums keep
    /// their order (docs/decisions/0006).
    /// </summary>
    /// <param name="earlier">A task of the operation before on the same rank.</param>
    public bool WeightsFollow(PipelineTask earlier) =>
        FreesActivations && earlier.FreesActivations && Chunk == earlier.Chunk;

    /// <summary>The notation: letter, chunk, point, micro-batch.</summary>
    public override string ToString() => $"{Letters[(int)Work]}{Chunk}.{MicroBatch}";

    /// <summary>Reads what <see cref="ToString"/> writes.</summary>
    /// <exception cref="KreweException">It is something else.</exception>
    public static PipelineTask Parse(string text)
    {
        string[] numbers = text.Length > 1 ? text[1..].Split('.') : [];
        int work = text.Length > 0 ? Letters.IndexOf(text[0], StringComparison.Ordinal) : -1;
        return work >= 0 && numbers.Length == 2
            && Number(numbers[0]) is { } chunk and <= 1
            && Number(numbers[1]) is { } microBatch
            ? new((PipelineWork)work, chunk, microBatch)
            : throw new KreweException(
                $"'{text}' is no pipeline operation: F, B, I or W, chunk 0 or 1, point, micro-batch are wanted " +
                "(F0.3), or a forward and a backward joined by a bar (F1.1|B0.0)");
    }

    private static int? Number(string text) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int number) ? number : null;
}
