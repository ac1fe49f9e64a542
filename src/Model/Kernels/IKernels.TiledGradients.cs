using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels;

/// <summary>Tiles of the gradients of SwiGLU, and of what its weight gradient reads; E4M3 in tiles of one
/// row.</summary>
/// <param name="Hidden">[F, M]: the activation, turned along the tokens.</param>
/// <param name="Gate">[M, F]: gradient of the gate projection.</param>
/// <param name="GateTurned">[F, M].</param>
/// <param name="Up">[M, F]: gradient of the up projection.</param>
/// <param name="UpTurned">[F, M].</param>
public readonly record struct SwiGluTiles(
    QuantizedTensor Hidden, QuantizedTensor Gate, QuantizedTensor GateTurned, QuantizedTensor Up,
    QuantizedTensor UpTurned)
{
    /// <summary>Whether a format is one that <see cref="IKernels.SwiGluBackwardTiles"/> takes.</summary>
    public static bool Takes(TileFormat format) =>
        format is { Element: DType.Float8E4M3, Rows: 1, Columns: 32 or DispatchTable.ColumnUnit };
}

/// <content>
/// Gradients that are quantised as they are made: the bits of simpler calls one behind the other. What is written here
/// is for backends that compute in host memory; one with kernels of its own says so.
/// </content>
public partial interface IKernels
{
    /// <summary>Whether these calls save passes over the values; where not, layers make the simpler calls
    /// themselves.</summary>
    bool MakesTiledGradients => false;

    /// <summary>
    /// The gradients of <see cref="SwiGlu"/> and the activation in tiles, from gate and up projections as tiles of one
    /// row keep them: <see cref="Quantize"/> and <see cref="Dequantize"/> of both, <see cref="SwiGlu"/>, <see
    /// cref="SwiGluBackward"/> and <see cref="Quantize"/>, or with a table <see cref="QuantizeExperts"/>, of the
    /// results.
    /// </summary>
    /// <param name="gradOutput">[M, F].</param>
    /// <param name="gate">[M, F], as the projection gave it.</param>
    /// <param name="up">[M, F].</param>
    /// <param name="cache">What both are kept in; one that <see cref="SwiGluTiles.Takes"/>.</param>
    /// <param name="table">Of M assignments, for turned tiles of each expert's own; or empty.</param>
    /// <param name="result">All overwritten.</param>
    void SwiGluBackwardTiles(
        Tensor gradOutput, Tensor gate, Tensor up, TileFormat cache, DispatchTable table, in SwiGluTiles result)
    {
        KernelChecks.SwiGluBackwardTiles(gradOutput, gate, up, cache, table, result);
        using var rooms = new HostArena("SwiGLU's gradients");
        Tensor keptGate = Kept(gate), keptUp = Kept(up);
        Tensor first = rooms.Allocate(gate.Rows, gate.Columns), second = rooms.Allocate(gate.Rows, gate.Columns);
        SwiGlu(keptGate, keptUp, first);
        Tiles(first, default, result.Hidden);
        SwiGluBackward(gradOutput, keptGate, keptUp, first, second);
        Tiles(first, result.Gate, result.GateTurned);
        Tiles(second, result.Up, result.UpTurned);

        Tensor Kept(Tensor values)
        {
            var tiles = QuantizedTensor.Allocate(rooms, values.Rows, values.Columns, cache);
            Tensor kept = rooms.Allocate(values.Rows, values.Columns);
            Quantize(values, default, tiles, default);
            Dequantize(tiles, kept);
            return kept;
        }

        void Tiles(Tensor values, QuantizedTensor straight, QuantizedTensor transposed)
        {
            if (table.Offsets.IsEmpty)
            {
                Quantize(values, default, straight, transposed);
            }
            else
            {
                QuantizeExperts(values, table, gathers: false, straight, transposed);
            }
        }
    }

    /// <summary><see cref="Dequantize"/>, then <see cref="QuantizeExperts"/> of the transpose.</summary>
    /// <param name="source">[A, D], or [T, D] where rows are gathered; of the result's element.</param>
    /// <param name="table">As <see cref="PlanDispatch"/> made it.</param>
    /// <param name="gathers">True where the source has a row for each token instead of each assignment.</param>
    /// <param name="transposed">[D, <see cref="DispatchTable.TurnedColumns"/>] in tiles of one row, 32 or 128
    /// wide.</param>
    void RequantizeExperts(QuantizedTensor source, DispatchTable table, bool gathers, QuantizedTensor transposed)
    {
        KernelChecks.RequantizeExperts(source, table, gathers, transposed);
        using var rooms = new HostArena("values of tiles");
        Tensor values = rooms.Allocate(source.Rows, source.Columns);
        Dequantize(source, values);
        QuantizeExperts(values, table, gathers, default, transposed);
    }

    /// <summary><see cref="CombineExpertsBackward"/>, then <see cref="QuantizeExperts"/> of the rows'
    /// gradient.</summary>
    /// <param name="gradOutput">[T, D].</param>
    /// <param name="source">[A, D], as given to the forward.</param>
    /// <param name="table">As given to the forward.</param>
    /// <param name="weights">[T, K].</param>
    /// <param name="precision">As given to the forward.</param>
    /// <param name="straight">[A, D] in tiles of one row, 32 or 128 wide.</param>
    /// <param name="transposed">[D, <see cref="DispatchTable.TurnedColumns"/>] likewise, of the same element.</param>
    /// <param name="gradWeights">[T, K].</param>
    void CombineExpertsBackwardTiles(
        Tensor gradOutput, Tensor source, DispatchTable table, Tensor weights, DType precision,
        QuantizedTensor straight, QuantizedTensor transposed, Tensor gradWeights)
    {
        KernelChecks.CombineExpertsBackwardTiles(
            gradOutput, source, table, weights, precision, straight, transposed, gradWeights);
        using var rooms = new HostArena("gradients of experts' rows");
        Tensor gradSource = rooms.Allocate(source.Rows, source.Columns);
        CombineExpertsBackward(gradOutput, source, table, weights, precision, gradSource, gradWeights);
        QuantizeExperts(gradSource, table, gathers: false, straight, transposed);
    }
}
