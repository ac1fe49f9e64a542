using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Cpu;

/// <content>Kernels that pick, add and compare rows: dispatch, combine and the embedding.</content>
public sealed unsafe partial class CpuKernels
{
    /// <inheritdoc/>
    public void SumRows(
        Tensor source, Tensor rows, Tensor scale, Tensor starts, Tensor output, bool accumulate = false)
    {
        KernelChecks.SumRows(source, rows, scale, starts, output);
        int part = RowsOfPart(output.Columns);
        For(
            Divide(output.Rows, part), rows.Count * source.Columns,
            new SumRowsLoop(source, rows, scale, starts, output, accumulate, part));
    }

    /// <inheritdoc/>
    public void GatherRows(Tensor source, Tensor rows, Tensor scale, Tensor output)
    {
        KernelChecks.GatherRows(source, rows, scale, output);
        int part = RowsOfPart(output.Columns);
        For(Divide(output.Rows, part), output.Count, new GatherRowsLoop(source, rows, scale, output, part));
    }

    /// <inheritdoc/>
    public void DotRows(Tensor left, Tensor leftRows, Tensor right, Tensor rightRows, Tensor output)
    {
        KernelChecks.DotRows(left, leftRows, right, rightRows, output);
        int count = (int)output.Count;
        int part = RowsOfPart(left.Columns);
        For(
            Divide(count, part), (long)count * left.Columns,
            new DotRowsLoop(left, leftRows, right, rightRows, output, part));
    }

    /// <inheritdoc/>
    /// <remarks>Parts are blocks of columns, so that each element is added to by one thread, tokens in order.</remarks>
    public void EmbeddingBackward(Tensor gradOutput, Tensor ids, Tensor gradTable)
    {
        KernelChecks.EmbeddingBackward(gradOutput, ids, gradTable);
        For(
            Divide(gradOutput.Columns, ColumnBlock), gradOutput.Count,
            new EmbeddingBackwardLoop(gradOutput, ids, gradTable));
    }

    private readonly struct SumRowsLoop(
        Tensor source, Tensor rows, Tensor scale, Tensor starts, Tensor output, bool accumulate, int part) : ILoop
    {
        public void Run(int index)
        {
            int end = Math.Min(output.Rows, (index + 1) * part);
            for (int r = index * part; r < end; r++)
            {
                SumRow(r, starts.Ints[r], starts.Ints[r + 1]);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private void SumRow(int row, int first, int last)
        {
            float* y = RowAddress(output, row);
            int* numbers = rows.Ints;
            float* factors = scale.IsEmpty ? null : scale.Floats;
            for (int d = 0; d < output.Columns; d += 2 * VectorMath.Width)
            {
                int left = output.Columns - d;
                int right = Math.Max(0, left - VectorMath.Width);
                Vector512<float> s0 = default;
                Vector512<float> s1 = default;
                for (int i = first; i < last; i++)
                {
                    float* x = RowAddress(source, numbers[i]) + d;
                    Vector512<float> factor = Vector512.Create(factors == null ? 1 : factors[i]);
                    Vector512<float> x0 = VectorMath.Load(x, left);
                    Vector512<float> x1 = VectorMath.Load(x + VectorMath.Width, right);
                    s0 = i == first ? factor * x0 : Vector512.FusedMultiplyAdd(factor, x0, s0);
                    s1 = i == first ? factor * x1 : Vector512.FusedMultiplyAdd(factor, x1, s1);
                }

                if (accumulate)
                {
                    s0 += VectorMath.Load(y + d, left);
                    s1 += VectorMath.Load(y + d + VectorMath.Width, right);
                }

                VectorMath.Store(s0, y + d, left);
                VectorMath.Store(s1, y + d + VectorMath.Width, right);
            }
        }
    }

    private readonly struct GatherRowsLoop(Tensor source, Tensor rows, Tensor scale, Tensor output, int part) : ILoop
    {
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public void Run(int index)
        {
            int columns = output.Columns;
            int end = Math.Min(output.Rows, (index + 1) * part);
            for (int r = index * part; r < end; r++)
            {
                float* x = RowAddress(source, rows.Ints[r]);
                float* y = RowAddress(output, r);
                if (scale.IsEmpty)
                {
                    new ReadOnlySpan<float>(x, columns).CopyTo(new(y, columns));
                    continue;
                }

                Vector512<float> factor = Vector512.Create(scale.Floats[r]);
                for (int d = 0; d < columns; d += VectorMath.Width)
                {
                    VectorMath.Store(factor * VectorMath.Load(x + d, columns - d), y + d, columns - d);
                }
            }
        }
    }

    private readonly struct DotRowsLoop(
        Tensor left, Tensor leftRows, Tensor right, Tensor rightRows, Tensor output, int part) : ILoop
    {
        public void Run(int index)
        {
            int end = (int)Math.Min(output.Count, (index + 1L) * part);
            for (int i = index * part; i < end; i++)
            {
                output.Floats[i] = VectorMath.Dot(
                    RowAddress(left, leftRows.Ints[i]), RowAddress(right, rightRows.Ints[i]), left.Columns);
            }
        }
    }

    private readonly struct EmbeddingBackwardLoop(Tensor gradOutput, Tensor ids, Tensor gradTable) : ILoop
    {
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public void Run(int index)
        {
            int start = index * ColumnBlock;
            int columns = Math.Min(ColumnBlock, gradTable.Columns - start);
            for (int t = 0; t < gradOutput.Rows; t++)
            {
                int id = ids.Ints[t];
                if (id < 0)
                {
                    continue;
                }

                float* g = RowAddress(gradOutput, t) + start;
                float* y = RowAddress(gradTable, id) + start;
                for (int d = 0; d < columns; d += VectorMath.Width)
                {
                    int left = columns - d;
                    VectorMath.Store(VectorMath.Load(y + d, left) + VectorMath.Load(g + d, left), y + d, left);
                }
            }
        }
    }
}
