using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Tests.Kernels.MatrixProduct;

/// <summary>The rows of one expert: a range that the device reads in its table, or a part that the host cuts out.</summary>
/// <param name="Table">Planned on the device.</param>
/// <param name="Expert">Which expert.</param>
/// <param name="First">Its first assignment.</param>
/// <param name="Count">Its assignments.</param>
/// <param name="IsRange">Whether the device reads them.</param>
internal readonly record struct ExpertRows(DispatchTable Table, int Expert, int First, int Count, bool IsRange)
{
    /// <summary>Int32: tokens of the assignments that a product gathers.</summary>
    public Tensor Tokens => IsRange ? Table.Rows : Table.Rows.SliceElements(First, Count);

    /// <summary>Int32 [2] on the device, or empty.</summary>
    public Tensor Range => IsRange ? Table.RangeOf(Expert) : default;

    /// <summary>A matrix of all assignments, or the expert's part of it.</summary>
    public Tensor Of(Tensor all) => IsRange ? all : all.SliceRows(First, Count);

    /// <inheritdoc cref="Of(Tensor)"/>
    public QuantizedTensor Of(QuantizedTensor all) => IsRange ? all : all.SliceRows(First, Count);

    /// <summary>All experts of a table.</summary>
    public static ExpertRows[] Each(DispatchTable table, int[] loads, bool ranges)
    {
        var all = new ExpertRows[loads.Length];
        for (int e = 0, first = 0; e < loads.Length; first += loads[e++])
        {
            all[e] = new(table, e, first, loads[e], ranges);
        }

        return all;
    }
}
