using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>
/// Operands that their producer writes as the products read them, in one pass where the backend has one: the same bits as
/// the producer and <see cref="Operand.Input"/> behind it, without the values in float32 where nobody else reads them.
/// </summary>
internal static class ProducedOperand
{
    /// <summary>What a producer writes for products of this precision alone: BFloat16, or Float32, to be rounded.</summary>
    public static DType StoredIn(IKernels kernels, ProductPrecision precision) =>
        precision.Operand == DType.BFloat16 ? kernels.BFloat16Storage : DType.Float32;

    /// <summary>silu(gate) * up, ready for the forward.</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="gate">[M, F].</param>
    /// <param name="up">[M, F].</param>
    /// <param name="precision">Of the products that will read it.</param>
    public static Operand SwiGlu(IKernels kernels, Arena arena, Tensor gate, Tensor up, ProductPrecision precision)
    {
        Tensor values = arena.Allocate(gate.Rows, gate.Columns, StoredIn(kernels, precision));
        if (precision.IsTiled)
        {
            var rows = QuantizedTensor.Allocate(arena, gate.Rows, gate.Columns, precision.Activation);
            kernels.SwiGluQuantize(gate, up, values, rows, default, keepsOutput: !precision.RetilesCached);
            return new(values, rows);
        }

        kernels.SwiGlu(gate, up, values);
        return new(InPlace(kernels, values, precision));
    }

    /// <summary>
    /// silu(gate) * up for the weight gradient alone, turned along the tokens; of tiles that is all that is left of it.
    /// </summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="gate">[M, F].</param>
    /// <param name="up">[M, F].</param>
    /// <param name="room">[M, F] Float32, for values that nobody needs afterwards.</param>
    /// <param name="precision">Of the product that will read it; has tiles.</param>
    public static Operand SwiGluTurned(
        IKernels kernels, Arena arena, Tensor gate, Tensor up, Tensor room, ProductPrecision precision)
    {
        var columns = QuantizedTensor.Allocate(arena, gate.Columns, gate.Rows, precision.Activation);
        kernels.SwiGluQuantize(gate, up, room, default, columns, keepsOutput: false);
        return new(room, Columns: columns);
    }

    /// <summary>
    /// Whether <see cref="SwiGluBackward"/> is the way to the gradients of SwiGLU: the backend has it, and all of it is
    /// tiles that it takes.
    /// </summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="cache">What gate and up projections are kept in.</param>
    /// <param name="precision">Of the products around.</param>
    public static bool MakesTiles(IKernels kernels, TileFormat? cache, ProductPrecision precision) =>
        kernels.MakesTiledGradients && precision.IsTiled && cache is { } format && SwiGluTiles.Takes(format)
        && SwiGluTiles.Takes(precision.Activation) && SwiGluTiles.Takes(precision.Gradient);

    /// <summary>
    /// Gradients of gate and up projections, ready for the products, and the activation for the weight gradient; the
    /// projections are not rounded in place.
    /// </summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="gradHidden">[M, F].</param>
    /// <param name="gate">[M, F], as the projection gave it.</param>
    /// <param name="up">[M, F].</param>
    /// <param name="cache">What they are kept in.</param>
    /// <param name="table">Of M assignments, for tiles along each expert's own tokens; or empty.</param>
    /// <param name="precision">Of the products around.</param>
    public static (Operand Hidden, Operand Gate, Operand Up) SwiGluBackward(
        IKernels kernels, Arena arena, Tensor gradHidden, Tensor gate, Tensor up, TileFormat cache, DispatchTable table,
        ProductPrecision precision)
    {
        (int rows, int width) = (gate.Rows, gate.Columns);
        int turned = table.Offsets.IsEmpty ? rows : table.TurnedColumns;
        var tiles = new SwiGluTiles(
            Tiles(width, turned, precision.Activation), Tiles(rows, width, precision.Gradient),
            Tiles(width, turned, precision.Gradient), Tiles(rows, width, precision.Gradient),
            Tiles(width, turned, precision.Gradient));
        kernels.SwiGluBackwardTiles(gradHidden, gate, up, cache, table, tiles);
        return (
            new(default, Columns: tiles.Hidden), new(default, tiles.Gate, tiles.GateTurned),
            new(default, tiles.Up, tiles.UpTurned));

        QuantizedTensor Tiles(int height, int columns, TileFormat format) =>
            QuantizedTensor.Allocate(arena, height, columns, format);
    }

    /// <summary>RMSNorm of rows, ready for the forward.</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="input">[M, D].</param>
    /// <param name="weight">[D].</param>
    /// <param name="inverseRms">[M]; overwritten.</param>
    /// <param name="epsilon"><c>rms_norm_eps</c>.</param>
    /// <param name="precision">Of the products that will read it.</param>
    public static Operand RmsNorm(
        IKernels kernels, Arena arena, Tensor input, Tensor weight, Tensor inverseRms, float epsilon,
        ProductPrecision precision)
    {
        Tensor values = arena.Allocate(input.Rows, input.Columns, StoredIn(kernels, precision));
        if (precision.IsTiled)
        {
            var rows = QuantizedTensor.Allocate(arena, input.Rows, input.Columns, precision.Activation);
            kernels.RmsNormQuantize(
                input, weight, values, inverseRms, epsilon, rows, default, keepsOutput: !precision.RetilesCached);
            return new(values, rows);
        }

        kernels.RmsNorm(input, weight, values, inverseRms, epsilon);
        return new(InPlace(kernels, values, precision));
    }

    /// <summary>Values that the producer could not write rounded.</summary>
    private static Tensor InPlace(IKernels kernels, Tensor values, ProductPrecision precision)
    {
        if (precision.Operand == DType.BFloat16 && values.DType == DType.Float32)
        {
            kernels.RoundToBFloat16(values, values);
        }

        return values;
    }
}
