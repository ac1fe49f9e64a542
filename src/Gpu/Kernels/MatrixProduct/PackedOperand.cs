using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels.MatrixProduct;

/// <summary>
/// An operand as the tensor cores' product can read it: codes whose rows start at multiples of 16 bytes, one behind the
/// other, and scales as quantisation wrote them. What is not so already, or is gathered, <c>PackOperands.cu</c> copies;
/// mirrors its <c>PackedOperand</c>.
/// </summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly struct PackedOperand
{
    private const int Alignment = 16;
    private const int ScratchAlignment = 256;
    private const int PieceRows = 16;

    private readonly nint _source;
    private readonly nint _sourceScales;
    private readonly nint _gather;
    private readonly nint _codes;
    private readonly nint _scales;
    private readonly int _rows;
    private readonly int _depth;
    private readonly int _blocks;
    private readonly int _pitch;
    private readonly int _firstTile;

    /// <summary>Plans an operand.</summary>
    /// <param name="source">Quantised in tiles 128 wide.</param>
    /// <param name="gather">Int32 [rows]: which rows, or empty for all.</param>
    /// <param name="rows">Rows of the operand.</param>
    /// <param name="scratch">Where copies go; moved behind them.</param>
    /// <param name="firstTile">Pieces of the operands before; moved behind this one's.</param>
    public PackedOperand(QuantizedTensor source, Tensor gather, int rows, ref nint scratch, ref int firstTile)
    {
        _source = source.Codes.Address;
        _sourceScales = source.Scales.Address;
        _gather = gather.Address;
        _rows = rows;
        _depth = source.Columns;
        _blocks = source.Scales.Columns;
        _firstTile = firstTile;
        _pitch = _depth;
        if (!gather.IsEmpty || _depth % Alignment != 0 || _source % Alignment != 0)
        {
            _pitch = checked((_depth + Alignment - 1) / Alignment * Alignment);
            _codes = Take(ref scratch, (long)rows * _pitch);
            _scales = gather.IsEmpty ? 0 : Take(ref scratch, (long)rows * _blocks * sizeof(float));
            firstTile += (int)Dim3.Cover(rows, PieceRows);
        }
    }

    /// <summary>Whether anything is copied.</summary>
    public bool IsPacked => _codes != 0;

    /// <summary>[rows, depth], a byte each.</summary>
    public Tensor Codes => new(IsPacked ? _codes : _source, new(_rows, _depth), DType.UInt8, _pitch);

    /// <summary>[rows or tiles of them, blocks of the depth].</summary>
    public nint Scales => _scales != 0 ? _scales : _sourceScales;

    private static nint Take(ref nint scratch, long bytes)
    {
        nint address = scratch;
        scratch += (nint)((bytes + ScratchAlignment - 1) / ScratchAlignment * ScratchAlignment);
        return address;
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
