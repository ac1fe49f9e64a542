using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels;

/// <summary>A dispatch table made on the host, one walk over the choices: the backends that compute in host memory.</summary>
internal static unsafe class HostDispatch
{
    /// <summary>Fills a table whose shapes were checked.</summary>
    public static void Plan(Tensor indices, DispatchTable table)
    {
        int experts = table.Experts;
        int* offsets = table.Offsets.Ints;
        int* columns = offsets + experts + 1;
        new Span<int>(offsets, 2 * (experts + 1)).Clear();
        for (int t = 0; t < indices.Rows; t++)
        {
            int* chosen = indices.Ints + ((nint)t * indices.RowStride);
            for (int k = 0; k < indices.Columns; k++)
            {
                offsets[chosen[k] + 1]++;
            }
        }

        for (int e = 0; e < experts; e++)
        {
            int units = (offsets[e + 1] + DispatchTable.ColumnUnit - 1) / DispatchTable.ColumnUnit;
            columns[e + 1] = columns[e] + (units * DispatchTable.ColumnUnit);
            offsets[e + 1] += offsets[e];
        }

        // The offsets serve as cursors: each ends where the next expert begins, and is moved back.
        for (int t = 0; t < indices.Rows; t++)
        {
            int* chosen = indices.Ints + ((nint)t * indices.RowStride);
            for (int k = 0; k < indices.Columns; k++)
            {
                int assignment = offsets[chosen[k]]++;
                table.Rows.Ints[assignment] = t;
                table.Assignments.Ints[(t * indices.Columns) + k] = assignment;
            }
        }

        for (int e = experts; e > 0; e--)
        {
            offsets[e] = offsets[e - 1];
        }

        offsets[0] = 0;
    }
}
