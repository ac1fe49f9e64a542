using System.Numerics;
using System.Runtime.InteropServices;
using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <summary>Element of a quantised matrix; mirrors <c>Element</c> in <c>Minifloats.cuh</c>.</summary>
internal enum DeviceElement
{
    /// <summary>Float8E4M3.</summary>
    E4M3,

    /// <summary>Float8E5M2.</summary>
    E5M2,

    /// <summary>Float12E5M6.</summary>
    E5M6,
}

/// <summary>A quantised matrix as kernels take it; mirrors <c>Quantized</c> in <c>QuantizedMatrix.cuh</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly struct DeviceQuantized(QuantizedTensor tensor)
{
    /// <summary>Side of the pieces that blocks of <c>quantize</c> take.</summary>
    public const int Side = 128;

    /// <summary>Threads of those blocks.</summary>
    public const int Threads = 512;

    private readonly nint _codes = tensor.Codes.Address;
    private readonly nint _scales = tensor.Scales.Address;
    private readonly int _rows = tensor.IsEmpty ? 0 : tensor.Rows;
    private readonly int _columns = tensor.Columns;
    private readonly int _tileRows = tensor.Format.Rows;
    private readonly int _tileColumns = tensor.Format.Columns;
    private readonly float _elementMax = tensor.Format.Columns == 0 ? 0 : tensor.Format.ElementMax;
    private readonly float _smallestMax = tensor.Format.SmallestMax;
    private readonly int _powerOfTwo = tensor.Format.PowerOfTwo ? 1 : 0;
    private readonly DeviceElement _element = tensor.IsEmpty ? default : ElementOf(tensor.Format.Element);

    /// <summary>The element of a type of codes.</summary>
    public static DeviceElement ElementOf(DType dtype) => dtype switch
    {
        DType.Float8E4M3 => DeviceElement.E4M3,
        DType.Float8E5M2 => DeviceElement.E5M2,
        DType.Float12E5M6 => DeviceElement.E5M6,
        _ => throw new ArgumentException($"element: expected one that is quantised to, got {dtype}", nameof(dtype)),
    };

    /// <summary>Whether tiles lie in pieces of 128 x 128 as <c>QuantizedTile.cuh</c> has them.</summary>
    public static bool FitsPieces(TileFormat format) =>
        format is { Rows: 1, Columns: Side or 32 } or { Rows: Side or 32, Columns: 1 } or { Rows: Side, Columns: Side };
}

/// <summary>A matrix of many that are quantised; mirrors <c>Copies</c> in <c>QuantizePieces.cu</c>.</summary>
/// <param name="Source">Values.</param>
/// <param name="Straight">Tiles, or empty.</param>
/// <param name="Transposed">Tiles of the transpose, or empty.</param>
/// <param name="FirstTile">Pieces of the matrices before this one.</param>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct DeviceCopies(
    DeviceMatrix Source, DeviceQuantized Straight, DeviceQuantized Transposed, int FirstTile);
