using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels;

/// <summary>A view of a quantised matrix: value[r, c] = code[r, c] * scale of its tile. Owns nothing.</summary>
/// <param name="Codes">[R, C] of the format's element, dense.</param>
/// <param name="Scales">[tiles over R, tiles over C], the dequantisation multipliers, float32 and dense.</param>
/// <param name="Format">Element, tile and scale.</param>
public readonly record struct QuantizedTensor(Tensor Codes, Tensor Scales, TileFormat Format)
{
    /// <summary>True where there is none.</summary>
    public bool IsEmpty => Codes.IsEmpty;

    /// <summary>R.</summary>
    public int Rows => Codes.Rows;

    /// <summary>C.</summary>
    public int Columns => Codes.Columns;

    /// <summary>Takes an uninitialised quantised matrix.</summary>
    public static QuantizedTensor Allocate(Arena arena, int rows, int columns, TileFormat format) => new(
        arena.Allocate(rows, columns, format.Element),
        arena.Allocate(format.TileRows(rows), format.TileColumns(columns)), format);

    /// <summary>Rows [start, start + count); a tile must not be cut.</summary>
    public QuantizedTensor SliceRows(int start, int count)
    {
        int end = start + count;
        if (start % Format.Rows != 0 || (end % Format.Rows != 0 && end != Rows))
        {
            throw new ArgumentException($"rows {start}..{end} of {Codes} cut a tile of {Format.Rows} rows", nameof(start));
        }

        return new(
            Codes.SliceRows(start, count), Scales.SliceRows(start / Format.Rows, Format.TileRows(count)), Format);
    }

    /// <inheritdoc/>
    public override string ToString() => $"{Codes} in tiles of {Format.Rows}x{Format.Columns}";
}

/// <summary>A matrix of many that are quantised in one call.</summary>
/// <param name="Source">[R, D].</param>
/// <param name="Straight">[R, D] in tiles of its format; or empty.</param>
/// <param name="Transposed">[D, R] in tiles of its format; or empty.</param>
public readonly record struct QuantizedCopies(Tensor Source, QuantizedTensor Straight, QuantizedTensor Transposed);

/// <summary>One scaled product of a grouped launch.</summary>
/// <param name="Input">[M, D], or [R, D] where rows are gathered.</param>
/// <param name="Weight">[N, D].</param>
/// <param name="Output">[M, N].</param>
/// <param name="InputRows">Int32 [M]: which rows of the input, or empty for rows 0 to M - 1.</param>
/// <param name="Accumulate">The sums begin at the old output.</param>
/// <param name="Range">As in <see cref="GroupedProduct"/>: rows of the output that the product is of; tiles of one row.</param>
/// <param name="Depth">
/// Int32 [2], begin and end on the device, or empty for all: columns of both operands that the sums run over, multiples of
/// <see cref="DispatchTable.ColumnUnit"/>. Not together with a range.
/// </param>
/// <param name="Splits">
/// A backend whose sums have an order of their own may sum parts of the depth side by side and add these up: for
/// products that are the same wherever a layer runs, which those of experts are not.
/// </param>
public readonly record struct ScaledProduct(
    QuantizedTensor Input, QuantizedTensor Weight, Tensor Output, Tensor InputRows = default, bool Accumulate = false,
    Tensor Range = default, Tensor Depth = default, bool Splits = false)
{
    /// <summary>The product of the rows of its range, for who reads it on the host.</summary>
    internal unsafe ScaledProduct Resolved()
    {
        if (Range.IsEmpty)
        {
            return this;
        }

        int first = Range.Ints[0], count = Range.Ints[1] - first;
        return this with
        {
            Input = InputRows.IsEmpty ? Input.SliceRows(first, count) : Input,
            InputRows = InputRows.IsEmpty ? default : InputRows.SliceElements(first, count),
            Output = Output.SliceRows(first, count),
            Range = default,
        };
    }
}
