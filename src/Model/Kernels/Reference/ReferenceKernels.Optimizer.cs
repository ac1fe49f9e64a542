using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Reference;

/// <content>AdamW with float32 or bfloat16 moments.</content>
public sealed unsafe partial class ReferenceKernels
{
    /// <inheritdoc/>
    /// <remarks>
    /// Every product and sum is rounded to float32 on its own (no fusing); the powers of the betas are float64. The
    /// update uses the new moments before they are rounded to their storage type.
    /// </remarks>
    public void AdamW(ReadOnlySpan<AdamWParameter> parameters, in AdamWStep step)
    {
        KernelChecks.AdamW(parameters, step);
        foreach (AdamWParameter parameter in parameters)
        {
            Update(parameter, step);
        }
    }

    private static void Update(in AdamWParameter parameter, in AdamWStep step)
    {
        (Tensor weight, Tensor gradient, Tensor firstMoment, Tensor secondMoment, bool decays, Tensor rounded) = parameter;
        float decay = decays ? step.LearningRate * step.WeightDecay : 0;
        float stepSize = (float)(step.LearningRate / (1 - Math.Pow(step.Beta1, step.Step)));
        float correction = (float)(1 - Math.Pow(step.Beta2, step.Step));
        for (int row = 0; row < weight.Rows; row++)
        {
            Span<float> w = weight.Row(row);
            Span<float> grad = gradient.Row(row);
            for (int i = 0; i < w.Length; i++)
            {
                float g = grad[i] * step.GradientScale;
                w[i] -= decay * w[i];

                float m = (step.Beta1 * Read(firstMoment, row, i)) + ((1 - step.Beta1) * g);
                float v = (step.Beta2 * Read(secondMoment, row, i)) + ((1 - step.Beta2) * (g * g));
                Write(firstMoment, row, i, m);
                Write(secondMoment, row, i, v);

                w[i] -= stepSize * m / (MathF.Sqrt(v / correction) + step.Epsilon);
                grad[i] = 0;
                if (!rounded.IsEmpty)
                {
                    Write(rounded, row, i, w[i]);
                }
            }
        }
    }

    private static float Read(Tensor tensor, int row, int column)
    {
        nint offset = ((nint)row * tensor.RowStride) + column;
        return tensor.DType == DType.Float32
            ? tensor.Floats[offset]
            : BitConverter.UInt32BitsToSingle((uint)((ushort*)tensor.Address)[offset] << 16);
    }

    private static void Write(Tensor tensor, int row, int column, float value)
    {
        nint offset = ((nint)row * tensor.RowStride) + column;
        if (tensor.DType == DType.Float32)
        {
            tensor.Floats[offset] = value;
        }
        else
        {
            ((ushort*)tensor.Address)[offset] = ToBFloat16(value);
        }
    }

    /// <summary>Round to nearest, ties to even: adds half a unit less one, plus the last kept bit.</summary>
    private static ushort ToBFloat16(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        return float.IsNaN(value)
            ? (ushort)((bits >> 16) | 0x40)
            : (ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
    }
}
