using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Reference;

/// <content>SwiGLU and the rotary embedding.</content>
public sealed unsafe partial class ReferenceKernels
{
    /// <inheritdoc/>
    public void SwiGlu(Tensor gate, Tensor up, Tensor output)
    {
        KernelChecks.SwiGlu(gate, up, output);
        for (int m = 0; m < gate.Rows; m++)
        {
            Span<float> x = gate.Row(m);
            Span<float> u = up.Row(m);
            for (int f = 0; f < x.Length; f++)
            {
                Write(output, m, f, x[f] / (1 + MathF.Exp(-x[f])) * u[f]);
            }
        }
    }

    /// <inheritdoc/>
    public void SwiGluBackward(Tensor gradOutput, Tensor gate, Tensor up, Tensor gradGate, Tensor gradUp)
    {
        KernelChecks.SwiGluBackward(gradOutput, gate, up, gradGate, gradUp);
        for (int m = 0; m < gate.Rows; m++)
        {
            Span<float> g = gradOutput.Row(m);
            Span<float> gateRow = gate.Row(m);
            Span<float> upRow = up.Row(m);
            for (int f = 0; f < g.Length; f++)
            {
                // silu'(x) = s (1 + x (1 - s)) with s = sigmoid(x). Both inputs are read before either write: the
                // gradients may lie on top of them.
                float x = gateRow[f];
                float u = upRow[f];
                float s = Sigmoid(x);
                Write(gradGate, m, f, g[f] * u * (s * (1 + (x * (1 - s)))));
                Write(gradUp, m, f, g[f] * (x * s));
            }
        }
    }

    /// <inheritdoc/>
    public void RotaryEmbedding(
        Tensor data, int heads, int offset, Tensor table, Tensor positions, bool inverse = false)
    {
        KernelChecks.RotaryEmbedding(data, heads, offset, table, positions);
        int headDim = data.Columns / heads;
        int ropeDim = table.Columns;
        for (int m = 0; m < data.Rows; m++)
        {
            Span<float> angles = table.Row(positions.Ints[m]);
            for (int h = 0; h < heads; h++)
            {
                Span<float> pairs = data.Row(m).Slice((h * headDim) + offset, ropeDim);
                for (int i = 0; i < ropeDim; i += 2)
                {
                    float cos = angles[i];
                    float sin = inverse ? -angles[i + 1] : angles[i + 1];
                    float x = pairs[i];
                    float y = pairs[i + 1];
                    pairs[i] = (x * cos) - (y * sin);
                    pairs[i + 1] = (x * sin) + (y * cos);
                }
            }
        }
    }
}
