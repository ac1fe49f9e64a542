using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels;

/// <content>Dispatch and combine planned on the device; its values are made there and not looked at.</content>
internal static unsafe partial class KernelChecks
{
    internal static void PlanDispatch(Tensor indices, DispatchTable table)
    {
        Matrix(indices, indices.Rows, indices.Columns, DType.Int32, nameof(indices));
        Table(table, indices.Rows, indices.Columns);
    }

    internal static void CombineExperts(
        Tensor source, DispatchTable table, Tensor indices, Tensor weights, int groupSize, DType precision, Tensor output)
    {
        int tokens = output.Rows;
        Matrix(indices, tokens, indices.Columns, DType.Int32, nameof(indices));
        Table(table, tokens, indices.Columns);
        Matrix(source, table.Count, output.Columns);
        Matrix(output, tokens, output.Columns);
        Rounding(precision);
        if (!weights.IsEmpty)
        {
            Matrix(weights, tokens, indices.Columns);
        }

        if (groupSize < 1)
        {
            throw new ArgumentException($"groupSize: expected 1 or more, got {groupSize}", nameof(groupSize));
        }
    }

    internal static void CombineExpertsBackward(
        Tensor gradOutput, Tensor source, DispatchTable table, Tensor weights, DType precision, Tensor gradSource,
        Tensor gradWeights)
    {
        int tokens = gradOutput.Rows;
        Table(table, tokens, weights.Columns);
        Matrix(gradOutput, tokens, gradOutput.Columns);
        Matrix(weights, tokens, weights.Columns);
        Matrix(gradWeights, tokens, weights.Columns);
        Matrix(source, table.Count, gradOutput.Columns);
        Operand(gradSource, table.Count, gradOutput.Columns, gradSource);
        Rounding(precision);
    }

    internal static void QuantizeExperts(
        Tensor source, DispatchTable table, bool gathers, QuantizedTensor straight, QuantizedTensor transposed)
    {
        Table(table, table.Assignments.Rows, table.Assignments.Columns);
        Matrix(source, gathers ? table.Assignments.Rows : table.Count, source.Columns);
        if (straight.IsEmpty && transposed.IsEmpty)
        {
            throw new ArgumentException("straight: expected it, or transposed, got neither", nameof(straight));
        }

        if (!straight.IsEmpty)
        {
            Quantized(straight, table.Count, source.Columns);
            OneRow(straight, nameof(straight));
        }

        if (!transposed.IsEmpty)
        {
            Quantized(transposed, source.Columns, table.TurnedColumns);
            OneRow(transposed, nameof(transposed));
        }
    }

    /// <summary>Begin and end of an expert's part, where a product has one.</summary>
    private static void Range(Tensor range, string name)
    {
        if (!range.IsEmpty)
        {
            Ints(range, 2, name);
        }
    }

    private static void Table(DispatchTable table, int tokens, int topK)
    {
        Matrix(table.Offsets, 2, table.Offsets.Columns, DType.Int32, "offsets");
        Dense(table.Offsets, "offsets");
        Ints(table.Rows, checked(tokens * topK), "rows");
        Matrix(table.Assignments, tokens, topK, DType.Int32, "assignments");
        Dense(table.Assignments, "assignments");
    }

    private static void Rounding(DType precision)
    {
        if (precision is not (DType.Float32 or DType.BFloat16))
        {
            throw new ArgumentException(
                $"precision: expected Float32 or BFloat16, got {precision}", nameof(precision));
        }
    }

    private static void OneRow(QuantizedTensor tensor, string name)
    {
        if (tensor.Format is not { Rows: 1, Columns: 32 or DispatchTable.ColumnUnit })
        {
            throw new ArgumentException(
                $"{name}: expected tiles of one row, 32 or {DispatchTable.ColumnUnit} wide, got {tensor.Format}", name);
        }
    }
}
