using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels;

/// <content>Gradients that are quantised as they are made.</content>
internal static unsafe partial class KernelChecks
{
    internal static void SwiGluBackwardTiles(
        Tensor gradOutput, Tensor gate, Tensor up, TileFormat cache, DispatchTable table, in SwiGluTiles result)
    {
        (int rows, int columns) = (gate.Rows, gate.Columns);
        Matrix(gate, rows, columns);
        Matrix(up, rows, columns);
        Matrix(gradOutput, rows, columns);
        RowTiles(cache, nameof(cache));
        int turned = rows;
        if (!table.Offsets.IsEmpty)
        {
            Table(table, table.Assignments.Rows, table.Assignments.Columns);
            Matrix(gate, table.Count, columns);
            turned = table.TurnedColumns;
        }

        Straight(result.Gate, "Gate");
        Straight(result.Up, "Up");
        Turned(result.Hidden, "Hidden");
        Turned(result.GateTurned, "GateTurned");
        Turned(result.UpTurned, "UpTurned");

        void Straight(QuantizedTensor tensor, string name)
        {
            Quantized(tensor, rows, columns, name);
            RowTiles(tensor.Format, name);
        }

        void Turned(QuantizedTensor tensor, string name)
        {
            Quantized(tensor, columns, turned, name);
            RowTiles(tensor.Format, name);
        }
    }

    internal static void RequantizeExperts(
        QuantizedTensor source, DispatchTable table, bool gathers, QuantizedTensor transposed)
    {
        Table(table, table.Assignments.Rows, table.Assignments.Columns);
        Quantized(source, gathers ? table.Assignments.Rows : table.Count, source.Columns);
        Quantized(transposed, source.Columns, table.TurnedColumns);
        OneRow(transposed, nameof(transposed));
        SameElement(source, transposed, nameof(transposed));
    }

    internal static void CombineExpertsBackwardTiles(
        Tensor gradOutput, Tensor source, DispatchTable table, Tensor weights, DType precision,
        QuantizedTensor straight, QuantizedTensor transposed, Tensor gradWeights)
    {
        CombineExpertsBackward(gradOutput, source, table, weights, precision, source, gradWeights);
        Quantized(straight, table.Count, source.Columns);
        Quantized(transposed, source.Columns, table.TurnedColumns);
        OneRow(straight, nameof(straight));
        OneRow(transposed, nameof(transposed));
        SameElement(straight, transposed, nameof(transposed));
    }

    private static void RowTiles(TileFormat format, string name)
    {
        if (!SwiGluTiles.Takes(format))
        {
            throw new ArgumentException(
                $"{name}: expected Float8E4M3 in tiles of one row, 32 or {DispatchTable.ColumnUnit} wide, got {format}",
                name);
        }
    }

    private static void SameElement(QuantizedTensor first, QuantizedTensor second, string name)
    {
        if (first.Format.Element != second.Format.Element)
        {
            throw new ArgumentException(
                $"{name}: expected {first.Format.Element} as beside it, got {second.Format.Element}", name);
        }
    }
}
