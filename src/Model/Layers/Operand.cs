using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>An activation or an output gradient as the products of a <see cref="Linear"/> read it.</summary>
/// <param name="Values">[M, D]: as given, or rounded to bfloat16 and kept in what the backend wants that in.</param>
/// <param name="Rows">[M, D] in tiles along the channels, where the precision has tiles.</param>
/// <param name="Columns">[D, M] in tiles along the tokens, for the weight gradient, where the precision has tiles.</param>
public readonly record struct Operand(
    Tensor Values, QuantizedTensor Rows = default, QuantizedTensor Columns = default)
{
    /// <summary>An input, ready for the forward.</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="values">[M, D].</param>
    /// <param name="precision">Of the products that will read it.</param>
    public static Operand Input(IKernels kernels, Arena arena, Tensor values, ProductPrecision precision)
    {
        if (!precision.IsTiled)
        {
            return new(Rounded(kernels, arena, values, precision));
        }

        var rows = QuantizedTensor.Allocate(arena, values.Rows, values.Columns, precision.Activation);
        kernels.Quantize(values, default, rows, default);
        return new(values, rows);
    }

    /// <summary>An output gradient, ready for both gradients.</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="values">[M, N].</param>
    /// <param name="precision">Of the products that will read it.</param>
    public static Operand Gradient(IKernels kernels, Arena arena, Tensor values, ProductPrecision precision)
    {
        if (!precision.IsTiled)
        {
            return new(Rounded(kernels, arena, values, precision));
        }

        var rows = QuantizedTensor.Allocate(arena, values.Rows, values.Columns, precision.Gradient);
        var columns = QuantizedTensor.Allocate(arena, values.Columns, values.Rows, precision.Gradient);
        kernels.Quantize(values, default, rows, columns);
        return new(values, rows, columns);
    }

    /// <summary>
    /// An input, also ready for the weight gradient: turned along the tokens, from the cached tiles where the precision
    /// says so.
    /// </summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="precision">As given to <see cref="Input"/>.</param>
    public Operand ForWeightGradient(IKernels kernels, Arena arena, ProductPrecision precision)
    {
        if (!precision.IsTiled)
        {
            return this;
        }

        if (!precision.RetilesCached || Rows.IsEmpty)
        {
            return this with { Columns = Turned(kernels, arena, Values, default, precision) };
        }

        var columns = QuantizedTensor.Allocate(arena, Rows.Columns, Rows.Rows, precision.Activation);
        kernels.Requantize(Rows, arena.Allocate(Rows.Rows, Rows.Columns), columns);
        return this with { Columns = columns };
    }

    /// <summary>Rows [start, start + count), without what was turned along the tokens.</summary>
    internal Operand SliceRows(int start, int count) => new(
        Values.SliceRows(start, count), Rows.IsEmpty ? default : Rows.SliceRows(start, count));

    /// <summary>What the weight gradient reads: the values, or those of the cached tiles.</summary>
    internal Tensor CachedValues(IKernels kernels, Arena arena, ProductPrecision precision)
    {
        if (!precision.RetilesCached || Rows.IsEmpty)
        {
            return Values;
        }

        Tensor cached = arena.Allocate(Rows.Rows, Rows.Columns);
        kernels.Dequantize(Rows, cached);
        return cached;
    }

    /// <summary>[D, M] in tiles along the tokens, of chosen rows or of all.</summary>
    internal static QuantizedTensor Turned(
        IKernels kernels, Arena arena, Tensor values, Tensor rows, ProductPrecision precision)
    {
        int count = rows.IsEmpty ? values.Rows : (int)rows.Count;
        var turned = QuantizedTensor.Allocate(arena, values.Columns, count, precision.Activation);
        kernels.Quantize(values, rows, default, turned);
        return turned;
    }

    /// <summary>Rounds values in place to what tiles of a format keep of them.</summary>
    internal static void RoundToTiles(IKernels kernels, Arena arena, Tensor values, TileFormat format) =>
        RoundToTiles(kernels, arena, values, values, format);

    /// <summary>rounded = what tiles of a format keep of values.</summary>
    internal static void RoundToTiles(IKernels kernels, Arena arena, Tensor values, Tensor rounded, TileFormat format)
    {
        var tiles = QuantizedTensor.Allocate(arena, values.Rows, values.Columns, format);
        kernels.Quantize(values, default, tiles, default);
        kernels.Dequantize(tiles, rounded);
    }

    /// <summary>
    /// An output gradient as <see cref="Gradient"/> makes it, but with the tiles along the tokens of each expert's own.
    /// </summary>
    internal static Operand ExpertsGradient(
        IKernels kernels, Arena arena, Tensor values, DispatchTable table, ProductPrecision precision)
    {
        if (!precision.IsTiled)
        {
            return new(values.DType == DType.BFloat16 ? values : Rounded(kernels, arena, values, precision));
        }

        var rows = QuantizedTensor.Allocate(arena, values.Rows, values.Columns, precision.Gradient);
        var columns = QuantizedTensor.Allocate(arena, values.Columns, table.TurnedColumns, precision.Gradient);
        kernels.QuantizeExperts(values, table, gathers: false, rows, columns);
        return new(values, rows, columns);
    }

    /// <summary>
    /// [D, columns of all experts]: what the weight gradient reads of this input, in tiles along each expert's own
    /// tokens.
    /// </summary>
    internal QuantizedTensor ExpertsTurned(
        IKernels kernels, Arena arena, DispatchTable table, bool gathers, ProductPrecision precision)
    {
        var turned = QuantizedTensor.Allocate(arena, Values.Columns, table.TurnedColumns, precision.Activation);
        if (kernels.MakesTiledGradients && precision.RetilesCached && !Rows.IsEmpty
            && Rows.Format.Element == turned.Format.Element)
        {
            kernels.RequantizeExperts(Rows, table, gathers, turned);
        }
        else
        {
            kernels.QuantizeExperts(CachedValues(kernels, arena, precision), table, gathers, default, turned);
        }

        return turned;
    }

    private static Tensor Rounded(IKernels kernels, Arena arena, Tensor values, ProductPrecision precision)
    {
        if (precision.Operand == DType.Float32 || values.DType == DType.BFloat16)
        {
            return values;
        }

        Tensor rounded = arena.Allocate(values.Rows, values.Columns, kernels.BFloat16Storage);
        kernels.RoundToBFloat16(values, rounded);
        return rounded;
    }
}
