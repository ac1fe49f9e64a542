using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>
/// Which rows of a micro-batch belong to which sequence, and at which position: host arrays and their device copies.
/// </summary>
public sealed class TokenLayout
{
    private TokenLayout(int[] sequenceStarts, Tensor positions, Tensor sequenceOfToken)
    {
        SequenceStarts = sequenceStarts;
        Positions = positions;
        SequenceOfToken = sequenceOfToken;
    }

    /// <summary>S + 1 rising row offsets: sequence s is rows [starts[s], starts[s+1]).</summary>
    public int[] SequenceStarts { get; }

    /// <summary>Number of sequences S.</summary>
    public int Sequences => SequenceStarts.Length - 1;

    /// <summary>Number of rows T.</summary>
    public int Tokens => SequenceStarts[^1];

    /// <summary>Int32 [T]: position of each row within its sequence.</summary>
    public Tensor Positions { get; }

    /// <summary>Int32 [T]: sequence of each row.</summary>
    public Tensor SequenceOfToken { get; }

    /// <summary>Lays out whole sequences, positions from 0.</summary>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="sequenceStarts">S + 1 rising row offsets, the first 0.</param>
    /// <param name="firstPosition">
    /// Position of the first row of each sequence: the length of the cache when decoding.
    /// </param>
    public static TokenLayout Create(Arena arena, int[] sequenceStarts, int firstPosition = 0)
    {
        Tensor positions = arena.Allocate(sequenceStarts[^1], DType.Int32);
        Tensor sequences = arena.Allocate(sequenceStarts[^1], DType.Int32);
        Span<int> position = positions.AsSpan<int>();
        Span<int> sequence = sequences.AsSpan<int>();
        for (int s = 0; s + 1 < sequenceStarts.Length; s++)
        {
            for (int row = sequenceStarts[s]; row < sequenceStarts[s + 1]; row++)
            {
                position[row] = firstPosition + row - sequenceStarts[s];
                sequence[row] = s;
            }
        }

        return new(sequenceStarts, positions, sequences);
    }

    /// <summary>
    /// The layout without the last <paramref name="count"/> rows of each sequence (shorter ones vanish).
    /// </summary>
    public TokenLayout DropLast(Arena arena, int count)
    {
        var starts = new List<int>(SequenceStarts.Length) { 0 };
        for (int s = 0; s < Sequences; s++)
        {
            starts.Add(starts[^1] + Math.Max(0, SequenceStarts[s + 1] - SequenceStarts[s] - count));
        }

        return Create(arena, [.. starts]);
    }
}
