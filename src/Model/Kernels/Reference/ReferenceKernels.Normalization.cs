using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Reference;

/// <content>RMSNorm and its gradients.</content>
public sealed unsafe partial class ReferenceKernels
{
    /// <inheritdoc/>
    public void RmsNorm(Tensor input, Tensor weight, Tensor output, Tensor inverseRms, float epsilon)
    {
        KernelChecks.RmsNorm(input, weight, output, inverseRms);
        for (int m = 0; m < input.Rows; m++)
        {
            Span<float> x = input.Row(m);
            float r = 1 / MathF.Sqrt((Dot(x, x) / x.Length) + epsilon);
            inverseRms.Floats[m] = r;
            for (int d = 0; d < x.Length; d++)
            {
                Write(output, m, d, x[d] * r * weight.Floats[d]);
            }
        }
    }

    /// <inheritdoc/>
    public void RmsNormBackwardInput(
        Tensor gradOutput, Tensor input, Tensor weight, Tensor inverseRms, Tensor gradInput, bool accumulate = false,
        Tensor residual = default)
    {
        KernelChecks.RmsNormBackwardInput(gradOutput, input, weight, inverseRms, gradInput, residual);
        Tensor added = accumulate && residual.IsEmpty ? gradInput : residual;
        for (int m = 0; m < input.Rows; m++)
        {
            Span<float> x = input.Row(m);
            Span<float> g = gradOutput.Row(m);
            Span<float> gx = gradInput.Row(m);
            float r = inverseRms.Floats[m];

            // y = w x r(x) and dr/dx = -r^3 x / D, hence gx = r (g w - x r^2 mean(g w x)).
            float mean = 0;
            for (int d = 0; d < x.Length; d++)
            {
                mean = MathF.FusedMultiplyAdd(g[d] * weight.Floats[d], x[d], mean);
            }

            float shrink = r * r * (mean / x.Length);
            for (int d = 0; d < x.Length; d++)
            {
                float gradient = r * ((g[d] * weight.Floats[d]) - (x[d] * shrink));
                gx[d] = added.IsEmpty ? gradient : added.Row(m)[d] + gradient;
            }
        }
    }

    /// <inheritdoc/>
    public void RmsNormBackwardWeight(Tensor gradOutput, Tensor input, Tensor inverseRms, Tensor gradWeight)
    {
        KernelChecks.RmsNormBackwardWeight(gradOutput, input, inverseRms, gradWeight);
        for (int m = 0; m < input.Rows; m++)
        {
            Span<float> x = input.Row(m);
            Span<float> g = gradOutput.Row(m);
            for (int d = 0; d < x.Length; d++)
            {
                float normalized = x[d] * inverseRms.Floats[m];
                gradWeight.Floats[d] = MathF.FusedMultiplyAdd(g[d], normalized, gradWeight.Floats[d]);
            }
        }
    }
}
