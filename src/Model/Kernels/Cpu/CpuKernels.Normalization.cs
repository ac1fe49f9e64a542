using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Cpu;

/// <content>RMSNorm and its gradients.</content>
public sealed unsafe partial class CpuKernels
{
    private const int ColumnBlock = 64;

    /// <inheritdoc/>
    public void RmsNorm(Tensor input, Tensor weight, Tensor output, Tensor inverseRms, float epsilon)
    {
        KernelChecks.RmsNorm(input, weight, output, inverseRms);
        int rows = RowsOfPart(input.Columns);
        For(Divide(input.Rows, rows), input.Count, new RmsNormLoop(input, weight, output, inverseRms, epsilon, rows));
    }

    /// <inheritdoc/>
    public void RmsNormBackwardInput(
        Tensor gradOutput, Tensor input, Tensor weight, Tensor inverseRms, Tensor gradInput, bool accumulate = false,
        Tensor residual = default)
    {
        KernelChecks.RmsNormBackwardInput(gradOutput, input, weight, inverseRms, gradInput, residual);
        int rows = RowsOfPart(input.Columns);
        For(
            Divide(input.Rows, rows), input.Count,
            new RmsNormBackwardLoop(
                gradOutput, input, weight, inverseRms, gradInput, accumulate && residual.IsEmpty ? gradInput : residual, rows));
    }

    /// <inheritdoc/>
    public void RmsNormBackwardWeight(Tensor gradOutput, Tensor input, Tensor inverseRms, Tensor gradWeight)
    {
        KernelChecks.RmsNormBackwardWeight(gradOutput, input, inverseRms, gradWeight);
        For(
            Divide(input.Columns, ColumnBlock), input.Count,
            new RmsNormWeightLoop(gradOutput, input, inverseRms, gradWeight));
    }

    private static int Divide(int value, int by) => (value + by - 1) / by;

    private static int RowsOfPart(int columns) => Math.Max(1, PartElements / Math.Max(1, columns));

    private readonly struct RmsNormLoop(
        Tensor input, Tensor weight, Tensor output, Tensor inverseRms, float epsilon, int rows) : ILoop
    {
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public void Run(int index)
        {
            int columns = input.Columns;
            int end = Math.Min(input.Rows, (index + 1) * rows);
            bool half = output.DType == DType.BFloat16;
            for (int m = index * rows; m < end; m++)
            {
                float* x = RowAddress(input, m);
                nint y = StoredAt(output, (nint)m * output.RowStride);
                float* w = weight.Floats;
                float r = 1 / MathF.Sqrt((VectorMath.Dot(x, x, columns) / columns) + epsilon);
                inverseRms.Floats[m] = r;
                Vector512<float> factor = Vector512.Create(r);
                for (int d = 0; d < columns; d += VectorMath.Width)
                {
                    int left = columns - d;
                    Write(VectorMath.Load(x + d, left) * factor * VectorMath.Load(w + d, left), y, d, left, half);
                }
            }
        }
    }

    private readonly struct RmsNormBackwardLoop(
        Tensor gradOutput, Tensor input, Tensor weight, Tensor inverseRms, Tensor gradInput, Tensor added, int rows)
        : ILoop
    {
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public void Run(int index)
        {
            int columns = input.Columns;
            int end = Math.Min(input.Rows, (index + 1) * rows);
            for (int m = index * rows; m < end; m++)
            {
                float* x = RowAddress(input, m);
                float* g = RowAddress(gradOutput, m);
                float* gx = RowAddress(gradInput, m);
                float* sum = added.IsEmpty ? null : RowAddress(added, m);
                float* w = weight.Floats;
                Vector512<float> s0 = default;
                Vector512<float> s1 = default;
                int d = 0;
                for (; d + 32 <= columns; d += 32)
                {
                    s0 = Vector512.FusedMultiplyAdd(
                        Vector512.Load(g + d) * Vector512.Load(w + d), Vector512.Load(x + d), s0);
                    s1 = Vector512.FusedMultiplyAdd(
                        Vector512.Load(g + d + 16) * Vector512.Load(w + d + 16), Vector512.Load(x + d + 16), s1);
                }

                for (; d < columns; d += VectorMath.Width)
                {
                    int left = columns - d;
                    s0 = Vector512.FusedMultiplyAdd(
                        VectorMath.Load(g + d, left) * VectorMath.Load(w + d, left), VectorMath.Load(x + d, left), s0);
                }

                float r = inverseRms.Floats[m];
                Vector512<float> factor = Vector512.Create(r);
                Vector512<float> shrink = Vector512.Create(r * r * (VectorMath.Sum(s0 + s1) / columns));
                for (d = 0; d < columns; d += VectorMath.Width)
                {
                    int left = columns - d;
                    Vector512<float> gradient = factor
                        * ((VectorMath.Load(g + d, left) * VectorMath.Load(w + d, left))
                            - (VectorMath.Load(x + d, left) * shrink));
                    if (sum is not null)
                    {
                        gradient += VectorMath.Load(sum + d, left);
                    }

                    VectorMath.Store(gradient, gx + d, left);
                }
            }
        }
    }

    private readonly struct RmsNormWeightLoop(Tensor gradOutput, Tensor input, Tensor inverseRms, Tensor gradWeight)
        : ILoop
    {
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public void Run(int index)
        {
            int end = Math.Min(input.Columns, (index + 1) * ColumnBlock);
            for (int d = index * ColumnBlock; d < end; d += VectorMath.Width)
            {
                int left = end - d;
                Vector512<float> sum = VectorMath.Load(gradWeight.Floats + d, left);
                for (int m = 0; m < input.Rows; m++)
                {
                    Vector512<float> x = VectorMath.Load(RowAddress(input, m) + d, left);
                    Vector512<float> g = VectorMath.Load(RowAddress(gradOutput, m) + d, left);
                    sum = Vector512.FusedMultiplyAdd(g, x * Vector512.Create(inverseRms.Floats[m]), sum);
                }

                VectorMath.Store(sum, gradWeight.Floats + d, left);
            }
        }
    }
}
