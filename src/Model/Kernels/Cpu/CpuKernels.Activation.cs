using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Cpu;

/// <content>SwiGLU and the rotary embedding.</content>
public sealed unsafe partial class CpuKernels
{
    /// <inheritdoc/>
    public void SwiGlu(Tensor gate, Tensor up, Tensor output)
    {
        KernelChecks.SwiGlu(gate, up, output);
        Parts parts = new(gate, gate.IsDense && up.IsDense && output.IsDense);
        For(parts.Number, 4 * gate.Count, new SwiGluLoop(parts, gate, up, output));
    }

    /// <inheritdoc/>
    public void SwiGluBackward(Tensor gradOutput, Tensor gate, Tensor up, Tensor gradGate, Tensor gradUp)
    {
        KernelChecks.SwiGluBackward(gradOutput, gate, up, gradGate, gradUp);
        bool dense = gradOutput.IsDense && gate.IsDense && up.IsDense && gradGate.IsDense && gradUp.IsDense;
        Parts parts = new(gate, dense);
        For(parts.Number, 4 * gate.Count, new SwiGluBackwardLoop(parts, gradOutput, gate, up, gradGate, gradUp));
    }

    /// <inheritdoc/>
    public void RotaryEmbedding(
        Tensor data, int heads, int offset, Tensor table, Tensor positions, bool inverse = false)
    {
        KernelChecks.RotaryEmbedding(data, heads, offset, table, positions);
        int rows = RowsOfPart(heads * table.Columns);
        For(
            Divide(data.Rows, rows), (long)data.Rows * heads * table.Columns,
            new RotaryLoop(data, heads, offset, table, positions, inverse, rows));
    }

    private readonly struct SwiGluLoop(Parts parts, Tensor gate, Tensor up, Tensor output) : ILoop
    {
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public void Run(int index)
        {
            float* x = gate.Floats + parts.Start(index, gate.RowStride);
            float* u = up.Floats + parts.Start(index, up.RowStride);
            nint y = StoredAt(output, parts.Start(index, output.RowStride));
            bool half = output.DType == DType.BFloat16;
            int count = parts.Length(index);
            for (int i = 0; i < count; i += VectorMath.Width)
            {
                int left = count - i;
                Vector512<float> v = VectorMath.Load(x + i, left);
                Vector512<float> silu = v / (Vector512<float>.One + VectorMath.Exp(-v));
                Write(silu * VectorMath.Load(u + i, left), y, i, left, half);
            }
        }
    }

    private readonly struct SwiGluBackwardLoop(
        Parts parts, Tensor gradOutput, Tensor gate, Tensor up, Tensor gradGate, Tensor gradUp) : ILoop
    {
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public void Run(int index)
        {
            float* g = gradOutput.Floats + parts.Start(index, gradOutput.RowStride);
            float* x = gate.Floats + parts.Start(index, gate.RowStride);
            float* u = up.Floats + parts.Start(index, up.RowStride);
            nint gx = StoredAt(gradGate, parts.Start(index, gradGate.RowStride));
            nint gu = StoredAt(gradUp, parts.Start(index, gradUp.RowStride));
            bool halfGate = gradGate.DType == DType.BFloat16;
            bool halfUp = gradUp.DType == DType.BFloat16;
            int count = parts.Length(index);
            for (int i = 0; i < count; i += VectorMath.Width)
            {
                int left = count - i;
                Vector512<float> v = VectorMath.Load(x + i, left);
                Vector512<float> upper = VectorMath.Load(u + i, left);
                Vector512<float> grad = VectorMath.Load(g + i, left);
                Vector512<float> s = VectorMath.Sigmoid(v);
                Vector512<float> slope = s * (Vector512<float>.One + (v * (Vector512<float>.One - s)));
                Write(grad * upper * slope, gx, i, left, halfGate);
                Write(grad * (v * s), gu, i, left, halfUp);
            }
        }
    }

    private readonly struct RotaryLoop(
        Tensor data, int heads, int offset, Tensor table, Tensor positions, bool inverse, int rows) : ILoop
    {
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public void Run(int index)
        {
            int headDim = data.Columns / heads;
            int ropeDim = table.Columns;
            int end = Math.Min(data.Rows, (index + 1) * rows);
            Vector512<float> sign = inverse
                ? Vector512.Create(1f, -1f, 1f, -1f, 1f, -1f, 1f, -1f, 1f, -1f, 1f, -1f, 1f, -1f, 1f, -1f)
                : Vector512.Create(-1f, 1f, -1f, 1f, -1f, 1f, -1f, 1f, -1f, 1f, -1f, 1f, -1f, 1f, -1f, 1f);
            for (int m = index * rows; m < end; m++)
            {
                float* angles = RowAddress(table, positions.Ints[m]);
                float* row = RowAddress(data, m) + offset;
                for (int h = 0; h < heads; h++, row += headDim)
                {
                    for (int i = 0; i < ropeDim; i += VectorMath.Width)
                    {
                        // x cos + swapped x * (-sin, sin), each product rounded on its own.
                        int left = ropeDim - i;
                        Vector512<float> x = VectorMath.Load(row + i, left);
                        Vector512<float> a = VectorMath.Load(angles + i, left);
                        Vector512<float> cos = Vector512.Shuffle(
                            a, Vector512.Create(0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12, 14, 14));
                        Vector512<float> sin = Vector512.Shuffle(
                            a, Vector512.Create(1, 1, 3, 3, 5, 5, 7, 7, 9, 9, 11, 11, 13, 13, 15, 15));
                        Vector512<float> swapped = Vector512.Shuffle(
                            x, Vector512.Create(1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14));
                        VectorMath.Store((x * cos) + (swapped * (sin * sign)), row + i, left);
                    }
                }
            }
        }
    }
}
