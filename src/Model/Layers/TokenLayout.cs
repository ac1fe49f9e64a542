using System.Buffers;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>
/// Which rows of a micro-batch belong to which sequence, and at which position: host arrays and their device copies.
/// </summary>
public sealed class TokenLayout
{
    private readonly int[]? _firstPositions;

    private TokenLayout(int[] sequenceStarts, int[]? firstPositions, Tensor positions, Tensor sequenceOfToken)
    {
        SequenceStarts = sequenceStarts;
        _firstPositions = firstPositions;
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

    /// <summary>Lays out whole sequences, positions from 0; <see cref="Fill"/> writes the device's copies.</summary>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="sequenceStarts">S + 1 rising row offsets, the first 0.</param>
    /// <param name="firstPositions">
    /// Position of the first row of each sequence, the length of its cache when decoding; 0 where left out.
    /// </param>
    public static TokenLayout Create(Arena arena, int[] sequenceStarts, int[]? firstPositions = null)
    {
        Tensor positions = arena.Allocate(sequenceStarts[^1], DType.Int32);
        Tensor sequences = arena.Allocate(sequenceStarts[^1], DType.Int32);
        return new(sequenceStarts, firstPositions, positions, sequences);
    }

    /// <summary>Writes <see cref="Positions"/> and <see cref="SequenceOfToken"/>, ahead of what reads them.</summary>
    public void Fill(IKernels kernels)
    {
        int[] values = ArrayPool<int>.Shared.Rent(Math.Max(1, Tokens));
        for (int s = 0; s < Sequences; s++)
        {
            int first = _firstPositions?[s] ?? 0;
            for (int row = SequenceStarts[s]; row < SequenceStarts[s + 1]; row++)
            {
                values[row] = first + row - SequenceStarts[s];
            }
        }

        kernels.Upload<int>(values.AsSpan(0, Tokens), Positions);
        for (int s = 0; s < Sequences; s++)
        {
            values.AsSpan(SequenceStarts[s]..SequenceStarts[s + 1]).Fill(s);
        }

        kernels.Upload<int>(values.AsSpan(0, Tokens), SequenceOfToken);
        ArrayPool<int>.Shared.Return(values);
    }

    /// <summary>The same rows and tensors at other positions.</summary>
    /// <param name="firstPositions">Position of the first row of each sequence.</param>
    public TokenLayout At(int[] firstPositions) => new(SequenceStarts, firstPositions, Positions, SequenceOfToken);

    /// <summary>For each row here the row of <paramref name="other"/> that lies <paramref name="ahead"/> rows on.</summary>
    /// <param name="other">Has the same sequences, each longer by <paramref name="ahead"/> rows or more.</param>
    /// <param name="ahead">Rows within the sequence.</param>
    /// <param name="rows">[T]; overwritten.</param>
    public void RowsIn(TokenLayout other, int ahead, Span<int> rows)
    {
        for (int s = 0; s < Sequences; s++)
        {
            for (int row = SequenceStarts[s]; row < SequenceStarts[s + 1]; row++)
            {
                rows[row] = other.SequenceStarts[s] + row - SequenceStarts[s] + ahead;
            }
        }
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
