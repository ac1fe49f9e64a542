using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Krewe.Model.Generation;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Cpu;

/// <content>Cross-entropy and the most likely token.</content>
public sealed unsafe partial class CpuKernels
{
    /// <inheritdoc/>
    public void CrossEntropy(Tensor logits, Tensor targets, Tensor losses, float gradScale)
    {
        KernelChecks.CrossEntropy(logits, targets, losses);
        int part = RowsOfPart(logits.Columns);
        For(
            Divide(logits.Rows, part), 4 * logits.Count,
            new CrossEntropyLoop(logits, targets, losses, gradScale, part));
    }

    /// <inheritdoc/>
    public void ArgMax(Tensor values, Tensor indices)
    {
        KernelChecks.ArgMax(values, indices);
        For(values.Rows, values.Count, new ArgMaxLoop(values, indices));
    }

    private readonly struct ArgMaxLoop(Tensor values, Tensor indices) : ILoop
    {
        public void Run(int index) =>
            indices.Ints[index] = Sampler.ArgMax(new ReadOnlySpan<float>(RowAddress(values, index), values.Columns));
    }

    private readonly struct CrossEntropyLoop(Tensor logits, Tensor targets, Tensor losses, float gradScale, int part)
        : ILoop
    {
        public void Run(int index)
        {
            int columns = logits.Columns;
            int end = Math.Min(logits.Rows, (index + 1) * part);
            for (int t = index * part; t < end; t++)
            {
                float* row = RowAddress(logits, t);
                int target = targets.Ints[t];
                if (target < 0)
                {
                    losses.Floats[t] = 0;
                    if (gradScale != 0)
                    {
                        new Span<float>(row, columns).Clear();
                    }

                    continue;
                }

                // With a gradient the exponentials stay in place of the logits and are scaled to probabilities.
                float chosen = row[target];
                float max = VectorMath.Max(row, columns);
                float sum = VectorMath.ExpSum(row, columns, 1, max, store: gradScale != 0);
                losses.Floats[t] = max + MathF.Log(sum) - chosen;
                if (gradScale != 0)
                {
                    VectorMath.Scale(row, columns, gradScale / sum);
                    row[target] -= gradScale;
                }
            }
        }
    }
}
