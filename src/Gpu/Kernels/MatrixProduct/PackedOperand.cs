using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels.MatrixProduct;

/// <summary>
/// An operand as the tensor cores' product reads it: codes whose rows start at multiples of 16 bytes, scales with the
/// rows side by side. What is not so already, or is gathered, <c>PackOperands.cu</c> copies; mirrors its
/// <c>PackedOperand</c>.
/// </summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly struct PackedOperand
{
    private const int Alignment = 16;
    private const int ScratchAlignment = 256;
    private const int PieceRows = 16;
    private const int ScalesOfPiece = Alignment / sizeof(float);

    private readonly nint _sourceCodes;
    private readonly nint _sourceScales;
    private readonly nint _gather;
    private readonly nint _codes;
    private readonly nint _scales;
    private readonly int _rows;
    private readonly int _depth;
    private readonly int _blocks;
    private readonly int _codesPitch;
    private readonly int _scalesPitch;
    private readonly int _firstTile;
    private readonly int _ranges;
    private readonly nint _offsets;

    /// <summary>Plans an operand.</summary>
    /// <param name="source">Quantised in tiles 128 wide.</param>
    /// <param name="gather">Int32 [rows]: which rows, or empty for all.</param>
    /// <param name="rows">Rows of the operand.</param>
    /// <param name="turnsScales">Whether it has a scale per row, which the product wants turned.</param>
    /// <param name="ranges">Ranges that the rows are in, each with scales of its own; none for 0 of them.</param>
    /// <param name="scratch">Where copies go; moved behind them.</param>
    /// <param name="firstTile">Pieces of the operands before; moved behind this one's.</param>
    public PackedOperand(
        QuantizedTensor source, Tensor gather, int rows, bool turnsScales, RowRanges ranges, ref nint scratch,
        ref int firstTile)
    {
        _sourceCodes = source.Codes.Address;
        _sourceScales = source.Scales.Address;
        _gather = gather.Address;
        _rows = rows;
        _depth = source.Columns;
        _blocks = source.Scales.Columns;
        _codesPitch = Round(_depth, Alignment);
        _ranges = ranges.Count;
        _offsets = ranges.Offsets;
        _scalesPitch = Round(rows, ScalesOfPiece) + (_ranges * ScalesOfPiece);
        _firstTile = firstTile;
        if (CopiesCodes(source, gather))
        {
            _codes = Take(ref scratch, (long)rows * _codesPitch);
        }

        if (turnsScales)
        {
            _scales = Take(ref scratch, (long)_blocks * _scalesPitch * sizeof(float));
        }

        firstTile += IsPacked ? (int)Dim3.Cover(rows, PieceRows) : 0;
    }

    /// <summary>Whether anything is copied.</summary>
    public bool IsPacked => _codes != 0 || _scales != 0;

    /// <summary>[rows, depth], a byte each.</summary>
    public Tensor Codes => new(
        _codes != 0 ? _codes : _sourceCodes, new(_rows, _depth), DType.UInt8, _codes != 0 ? _codesPitch : _depth);

    /// <summary>[blocks of the depth, rows].</summary>
    public Tensor Scales => new(
        _scales, new(_blocks, _ranges == 0 ? _rows : _scalesPitch), DType.Float32, _scalesPitch);

    /// <summary>Whether codes must be copied before a tensor map can describe them.</summary>
    private static bool CopiesCodes(QuantizedTensor source, Tensor gather) =>
        !gather.IsEmpty || source.Columns % Alignment != 0 || source.Codes.Address % Alignment != 0;

    private static int Round(int value, int multiple) => checked((value + multiple - 1) / multiple * multiple);

    private static nint Take(ref nint scratch, long bytes)
    {
        nint address = scratch;
        scratch += (nint)((bytes + ScratchAlignment - 1) / ScratchAlignment * ScratchAlignment);
        return address;
    }
}

/// <summary>Ranges of rows on the device, one behind the other.</summary>
/// <param name="Offsets">Int32 [count + 1]: where each begins, and where the last ends.</param>
/// <param name="Count">How many.</param>
internal readonly record struct RowRanges(nint Offsets, int Count)
{
    /// <summary>Number of a product's range.</summary>
    public int NumberOf(Tensor range) => range.IsEmpty ? 0 : (int)((range.Address - Offsets) / sizeof(int));

    /// <summary>The ranges of a launch.</summary>
    public static RowRanges Of(ReadOnlySpan<ScaledProduct> products)
    {
        nint first = nint.MaxValue, last = 0;
        foreach (ref readonly ScaledProduct product in products)
        {
            if (!product.Range.IsEmpty)
            {
                (first, last) = (Math.Min(first, product.Range.Address), Math.Max(last, product.Range.Address));
            }
        }

        return last == 0 ? default : new(first, (int)((last - first) / sizeof(int)) + 1);
    }
}

/// <summary>Up to two operands by value; mirrors <c>OwnedOperands</c> in <c>PackOperands.cu</c>.</summary>
[InlineArray(Count)]
internal struct OwnedOperands
{
    /// <summary>How many.</summary>
    public const int Count = 2;

    private PackedOperand _first;
}
