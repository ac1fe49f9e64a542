using System.Runtime.InteropServices;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <summary>An operand of an exact scaled product; mirrors <c>Operand</c> in <c>ScaledProducts.cu</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly struct DeviceScaledOperand(QuantizedTensor tensor, Tensor gather, int rows)
{
    private readonly nint _codes = tensor.Codes.Address;
    private readonly nint _scales = tensor.Scales.Address;
    private readonly nint _gather = gather.Address;
    private readonly int _rows = rows;
    private readonly int _tileRows = tensor.Format.Rows;
    private readonly DeviceElement _element = DeviceQuantized.ElementOf(tensor.Format.Element);
    private readonly int _pitch = tensor.Columns;
    private readonly int _slices = tensor.Scales.Columns;
}

/// <summary>An exact scaled product; mirrors <c>ScaledProduct</c> in <c>ScaledProducts.cu</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly struct DeviceScaledProduct(in ScaledProduct product, int rows, int firstTile)
{
    private const int Tile = 64;

    private readonly DeviceScaledOperand _a = new(product.Input, product.InputRows, rows);
    private readonly DeviceScaledOperand _b = new(product.Weight, default, product.Weight.Rows);
    private readonly nint _c = product.Output.Address;
    private readonly nint _range = product.Range.Address;
    private readonly nint _depth = product.Depth.Address;
    private readonly int _k = product.Weight.Columns;
    private readonly int _width = product.Weight.Format.Columns;
    private readonly int _stride = product.Output.RowStride;
    private readonly int _accumulate = product.Accumulate ? 1 : 0;
    private readonly int _firstTile = firstTile;

    /// <summary>Blocks that compute a product, or with a range those of as many rows and of the tile that is not full.
    /// </summary>
    public static int Tiles(in ScaledProduct product, int rows) => checked((int)(
        (Driver.Dim3.Cover(rows, Tile) + (product.Range.IsEmpty ? 0u : 1u))
        * Driver.Dim3.Cover(product.Output.Columns, Tile)));
}
