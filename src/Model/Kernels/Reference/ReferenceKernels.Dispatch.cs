using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Reference;

/// <content>Dispatch and combine of experts that live on one device.</content>
public sealed unsafe partial class ReferenceKernels
{
    /// <inheritdoc/>
    public void PlanDispatch(Tensor indices, DispatchTable table)
    {
        KernelChecks.PlanDispatch(indices, table);
        HostDispatch.Plan(indices, table);
    }

    /// <inheritdoc/>
    public void CombineExperts(
        Tensor source, DispatchTable table, Tensor indices, Tensor weights, int groupSize, DType precision, Tensor output)
    {
        KernelChecks.CombineExperts(source, table, indices, weights, groupSize, precision, output);
        int topK = indices.Columns;
        for (int t = 0; t < output.Rows; t++)
        {
            int* chosen = indices.Ints + ((nint)t * indices.RowStride);
            Span<float> y = output.Row(t);
            for (int d = 0; d < y.Length; d++)
            {
                float sum = 0;
                for (int k = 0; k < topK;)
                {
                    int first = k;
                    int group = chosen[k] / groupSize;
                    float part = 0;
                    for (; k < topK && chosen[k] / groupSize == group; k++)
                    {
                        float x = Round(source.Row(table.Assignments.Ints[(t * topK) + k])[d], precision);
                        float weight = weights.IsEmpty ? 1 : weights.Row(t)[k];
                        part = k == first ? weight * x : MathF.FusedMultiplyAdd(weight, x, part);
                    }

                    part = Round(part, precision);
                    sum = first == 0 ? part : sum + part;
                }

                y[d] += sum;
            }
        }
    }

    /// <inheritdoc/>
    public void CombineExpertsBackward(
        Tensor gradOutput, Tensor source, DispatchTable table, Tensor weights, DType precision, Tensor gradSource,
        Tensor gradWeights)
    {
        KernelChecks.CombineExpertsBackward(gradOutput, source, table, weights, precision, gradSource, gradWeights);
        float[] row = new float[source.Columns];
        for (int t = 0; t < gradOutput.Rows; t++)
        {
            Span<float> g = gradOutput.Row(t);
            for (int k = 0; k < weights.Columns; k++)
            {
                int a = table.Assignments.Ints[(t * weights.Columns) + k];
                float weight = weights.Row(t)[k];
                for (int d = 0; d < row.Length; d++)
                {
                    row[d] = Round(source.Row(a)[d], precision);
                }

                gradWeights.Row(t)[k] = Dot(row, g);
                for (int d = 0; d < row.Length; d++)
                {
                    row[d] = weight * g[d];
                }

                if (gradSource.DType == DType.BFloat16)
                {
                    BFloat16Format.Encode(row, BFloat16Row(gradSource, a));
                }
                else
                {
                    row.CopyTo(gradSource.Row(a));
                }
            }
        }
    }

    /// <inheritdoc/>
    public void QuantizeExperts(
        Tensor source, DispatchTable table, bool gathers, QuantizedTensor straight, QuantizedTensor transposed)
    {
        KernelChecks.QuantizeExperts(source, table, gathers, straight, transposed);
        Tensor rows = gathers ? table.Rows : default;
        if (!straight.IsEmpty)
        {
            QuantizeTiles(straight, 0, straight.Columns, (row, column) => At(source, rows, row)[column]);
        }

        for (int expert = 0; expert < table.Experts && !transposed.IsEmpty; expert++)
        {
            int* range = table.RangeOf(expert).Ints;
            int* columns = table.ColumnsOf(expert).Ints;
            int begin = range[0], end = range[1], left = columns[0];
            QuantizeTiles(transposed, left, columns[1], (row, column) =>
                begin + column - left < end ? At(source, rows, begin + column - left)[row] : 0);
        }
    }

    private static float Round(float value, DType precision) =>
        precision == DType.BFloat16 ? BFloat16Format.Round(value) : value;
}
