using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Cpu;

/// <content>Dispatch and combine of experts that live on one device.</content>
public sealed unsafe partial class CpuKernels
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
        int part = RowsOfPart(output.Columns);
        For(
            Divide(output.Rows, part), source.Count,
            new CombineLoop(source, table, indices, weights, groupSize, precision == DType.BFloat16, output, part));
    }

    /// <inheritdoc/>
    public void CombineExpertsBackward(
        Tensor gradOutput, Tensor source, DispatchTable table, Tensor weights, DType precision, Tensor gradSource,
        Tensor gradWeights)
    {
        KernelChecks.CombineExpertsBackward(gradOutput, source, table, weights, precision, gradSource, gradWeights);
        int part = RowsOfPart(gradOutput.Columns);
        For(
            Divide(gradOutput.Rows, part), 2 * source.Count,
            new CombineBackwardLoop(
                gradOutput, source, table, weights, precision == DType.BFloat16, gradSource, gradWeights, part));
    }

    /// <inheritdoc/>
    public void QuantizeExperts(
        Tensor source, DispatchTable table, bool gathers, QuantizedTensor straight, QuantizedTensor transposed)
    {
        KernelChecks.QuantizeExperts(source, table, gathers, straight, transposed);
        if (!straight.IsEmpty)
        {
            int band = BandOf(straight.Format);
            Tensor rows = gathers ? table.Rows : default;
            For(Divide(straight.Rows, band), straight.Codes.Count, new QuantizeLoop(source, rows, straight, band));
        }

        if (!transposed.IsEmpty && table.Count > 0)
        {
            using var arena = new HostArena("one expert's turned rows");
            for (int expert = 0; expert < table.Experts; expert++)
            {
                QuantizeTurned(source, table, expert, gathers, transposed, arena);
            }
        }
    }

    /// <summary>One expert's columns of a transpose: quantised by themselves, then laid beside the others'.</summary>
    private void QuantizeTurned(
        Tensor source, DispatchTable table, int expert, bool gathers, QuantizedTensor destination, Arena arena)
    {
        int first = table.RangeOf(expert).Ints[0];
        int count = table.RangeOf(expert).Ints[1] - first;
        int left = table.ColumnsOf(expert).Ints[0];
        int columns = table.ColumnsOf(expert).Ints[1] - left;
        if (count == 0)
        {
            return;
        }

        arena.Reset();
        var own = QuantizedTensor.Allocate(arena, destination.Rows, count, destination.Format);
        int band = BandOf(own.Format);
        Tensor rows = gathers ? table.Rows.SliceElements(first, count) : default;
        Tensor values = gathers ? source : source.SliceRows(first, count);
        For(Divide(own.Rows, band), own.Codes.Count, new QuantizeTransposedLoop(values, rows, own, band));
        int bytes = destination.Format.Element.SizeInBytes();
        for (int row = 0; row < own.Rows; row++)
        {
            var codes = new Span<byte>(
                (byte*)destination.Codes.Address + ((((nint)row * destination.Columns) + left) * bytes), columns * bytes);
            codes[(count * bytes)..].Clear();
            new ReadOnlySpan<byte>((byte*)own.Codes.Address + ((nint)row * count * bytes), count * bytes).CopyTo(codes);
            var scales = new Span<float>(
                RowAddress(destination.Scales, row) + (left / destination.Format.Columns),
                columns / destination.Format.Columns);
            scales.Fill(destination.Format.ScaleOf(0));
            own.Scales.Row(row).CopyTo(scales);
        }
    }

    private readonly struct CombineLoop(
        Tensor source, DispatchTable table, Tensor indices, Tensor weights, int groupSize, bool rounds, Tensor output,
        int part) : ILoop
    {
        public void Run(int index)
        {
            int end = Math.Min(output.Rows, (index + 1) * part);
            for (int t = index * part; t < end; t++)
            {
                float* y = RowAddress(output, t);
                for (int d = 0; d < output.Columns; d += VectorMath.Width)
                {
                    int left = output.Columns - d;
                    VectorMath.Store(VectorMath.Load(y + d, left) + Sum(t, d, left), y + d, left);
                }
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private Vector512<float> Sum(int token, int column, int left)
        {
            int topK = indices.Columns;
            int* chosen = indices.Ints + ((nint)token * indices.RowStride);
            int* assignments = table.Assignments.Ints + ((nint)token * topK);
            float* factors = weights.IsEmpty ? null : RowAddress(weights, token);
            Vector512<float> sum = default;
            for (int k = 0; k < topK;)
            {
                int first = k;
                int group = chosen[k] / groupSize;
                Vector512<float> part = default;
                for (; k < topK && chosen[k] / groupSize == group; k++)
                {
                    Vector512<float> x = Round(VectorMath.Load(RowAddress(source, assignments[k]) + column, left));
                    Vector512<float> factor = Vector512.Create(factors == null ? 1 : factors[k]);
                    part = k == first ? factor * x : Vector512.FusedMultiplyAdd(factor, x, part);
                }

                part = Round(part);
                sum = first == 0 ? part : sum + part;
            }

            return sum;
        }

        private Vector512<float> Round(Vector512<float> x) => rounds ? BFloat16.Round(x) : x;
    }

    private readonly struct CombineBackwardLoop(
        Tensor gradOutput, Tensor source, DispatchTable table, Tensor weights, bool rounds, Tensor gradSource,
        Tensor gradWeights, int part) : ILoop
    {
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public void Run(int index)
        {
            int columns = gradOutput.Columns;
            float* row = Scratch.Current.Floats(ScratchUse.Decoded, columns);
            int end = Math.Min(gradOutput.Rows, (index + 1) * part);
            for (int t = index * part; t < end; t++)
            {
                float* g = RowAddress(gradOutput, t);
                for (int k = 0; k < weights.Columns; k++)
                {
                    int assignment = table.Assignments.Ints[((nint)t * weights.Columns) + k];
                    float* x = RowAddress(source, assignment);
                    if (rounds)
                    {
                        Round(x, row, columns);
                    }

                    RowAddress(gradWeights, t)[k] = VectorMath.Dot(rounds ? row : x, g, columns);
                    Scale(g, RowAddress(weights, t)[k], assignment);
                }
            }
        }

        private static void Round(float* from, float* to, int count)
        {
            for (int d = 0; d < count; d += VectorMath.Width)
            {
                VectorMath.Store(BFloat16.Round(VectorMath.Load(from + d, count - d)), to + d, count - d);
            }
        }

        private void Scale(float* g, float weight, int assignment)
        {
            int columns = gradOutput.Columns;
            Vector512<float> factor = Vector512.Create(weight);
            nint start = (nint)assignment * gradSource.RowStride;
            for (int d = 0; d < columns; d += VectorMath.Width)
            {
                Vector512<float> value = factor * VectorMath.Load(g + d, columns - d);
                if (gradSource.DType == DType.BFloat16)
                {
                    BFloat16.Store(value, (ushort*)gradSource.Address + start + d, columns - d);
                }
                else
                {
                    VectorMath.Store(value, gradSource.Floats + start + d, columns - d);
                }
            }
        }
    }
}
