using Krewe.Model.Generation;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Reference;

/// <content>Cross-entropy and the most likely token.</content>
public sealed unsafe partial class ReferenceKernels
{
    /// <inheritdoc/>
    public void CrossEntropy(Tensor logits, Tensor targets, Tensor losses, float gradScale)
    {
        KernelChecks.CrossEntropy(logits, targets, losses);
        for (int t = 0; t < logits.Rows; t++)
        {
            Span<float> row = logits.Row(t);
            int target = targets.Ints[t];
            if (target < 0)
            {
                losses.Floats[t] = 0;
                if (gradScale != 0)
                {
                    row.Clear();
                }

                continue;
            }

            float logSumExp = LogSumExp(row);
            losses.Floats[t] = logSumExp - row[target];
            if (gradScale != 0)
            {
                for (int v = 0; v < row.Length; v++)
                {
                    float oneHot = v == target ? 1 : 0;
                    row[v] = gradScale * (MathF.Exp(row[v] - logSumExp) - oneHot);
                }
            }
        }
    }

    /// <inheritdoc/>
    public void ArgMax(Tensor values, Tensor indices)
    {
        KernelChecks.ArgMax(values, indices);
        for (int t = 0; t < values.Rows; t++)
        {
            indices.Ints[t] = Sampler.ArgMax(values.Row(t));
        }
    }

    /// <summary>maximum + log(sum of exp(x - maximum)); the sum in float64: a vocabulary has 100,000 terms.</summary>
    private static float LogSumExp(ReadOnlySpan<float> values)
    {
        float maximum = float.NegativeInfinity;
        foreach (float value in values)
        {
            maximum = MathF.Max(maximum, value);
        }

        double sum = 0;
        foreach (float value in values)
        {
            sum += MathF.Exp(value - maximum);
        }

        return maximum + (float)Math.Log(sum);
    }
}
