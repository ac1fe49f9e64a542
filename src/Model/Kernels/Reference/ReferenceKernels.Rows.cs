using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Reference;

/// <content>Kernels that pick, add and compare rows: dispatch, combine and the embedding.</content>
public sealed unsafe partial class ReferenceKernels
{
    /// <inheritdoc/>
    public void SumRows(
        Tensor source, Tensor rows, Tensor scale, Tensor starts, Tensor output, bool accumulate = false)
    {
        KernelChecks.SumRows(source, rows, scale, starts, output);
        float[] sum = new float[source.Columns];
        for (int r = 0; r < output.Rows; r++)
        {
            sum.AsSpan().Clear();
            int first = starts.Ints[r];
            for (int i = first; i < starts.Ints[r + 1]; i++)
            {
                Span<float> x = source.Row(rows.Ints[i]);
                float factor = scale.IsEmpty ? 1 : scale.Floats[i];
                for (int d = 0; d < sum.Length; d++)
                {
                    sum[d] = i == first ? factor * x[d] : MathF.FusedMultiplyAdd(factor, x[d], sum[d]);
                }
            }

            Span<float> y = output.Row(r);
            for (int d = 0; d < sum.Length; d++)
            {
                y[d] = accumulate ? y[d] + sum[d] : sum[d];
            }
        }
    }

    /// <inheritdoc/>
    public void GatherRows(Tensor source, Tensor rows, Tensor scale, Tensor output)
    {
        KernelChecks.GatherRows(source, rows, scale, output);
        for (int i = 0; i < output.Rows; i++)
        {
            Span<float> x = source.Row(rows.Ints[i]);
            Span<float> y = output.Row(i);
            float factor = scale.IsEmpty ? 1 : scale.Floats[i];
            for (int d = 0; d < y.Length; d++)
            {
                y[d] = factor * x[d];
            }
        }
    }

    /// <inheritdoc/>
    public void DotRows(Tensor left, Tensor leftRows, Tensor right, Tensor rightRows, Tensor output)
    {
        KernelChecks.DotRows(left, leftRows, right, rightRows, output);
        for (int i = 0; i < output.Count; i++)
        {
            output.Floats[i] = Dot(left.Row(leftRows.Ints[i]), right.Row(rightRows.Ints[i]));
        }
    }

    /// <inheritdoc/>
    public void EmbeddingBackward(Tensor gradOutput, Tensor ids, Tensor gradTable)
    {
        KernelChecks.EmbeddingBackward(gradOutput, ids, gradTable);
        for (int t = 0; t < gradOutput.Rows; t++)
        {
            if (ids.Ints[t] < 0)
            {
                continue;
            }

            Span<float> g = gradOutput.Row(t);
            Span<float> row = gradTable.Row(ids.Ints[t]);
            for (int d = 0; d < g.Length; d++)
            {
                row[d] += g[d];
            }
        }
    }
}
