using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>
/// Root-mean-square normalisation with a learned scale; the state of one use is a <see cref="Saved"/>.
/// </summary>
/// <param name="weight">[D].</param>
/// <param name="epsilon"><c>rms_norm_eps</c>.</param>
public sealed class RmsNorm(Parameter weight, float epsilon)
{
    /// <summary>What one forward keeps for its backward.</summary>
    /// <param name="Input">[M, D].</param>
    /// <param name="Output">[M, D]; unspecified where only products in tiles read it.</param>
    /// <param name="InverseRms">[M].</param>
    public readonly record struct Saved(Tensor Input, Tensor Output, Tensor InverseRms);

    /// <summary>Normalises rows into a new tensor.</summary>
    public Saved Forward(IKernels kernels, Arena arena, Tensor input) =>
        Forward(kernels, arena, input, arena.Allocate(input.Rows, input.Columns));

    /// <summary>Normalises rows into <paramref name="output"/>, which may be strided.</summary>
    public Saved Forward(IKernels kernels, Arena arena, Tensor input, Tensor output)
    {
        Tensor inverseRms = arena.Allocate(input.Rows);
        kernels.RmsNorm(input, weight.Value, output, inverseRms, epsilon);
        return new(input, output, inverseRms);
    }

    /// <summary>
    /// Normalises rows for products alone, which read the result as <see cref="Saved.Output"/> is kept then.
    /// </summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="input">[M, D].</param>
    /// <param name="precision">Of the products.</param>
    /// <param name="operand">The result for their forward.</param>
    public Saved Forward(
        IKernels kernels, Arena arena, Tensor input, ProductPrecision precision, out Operand operand)
    {
        Tensor inverseRms = arena.Allocate(input.Rows);
        operand = ProducedOperand.RmsNorm(kernels, arena, input, weight.Value, inverseRms, epsilon, precision);
        return new(input, operand.Values, inverseRms);
    }

    /// <summary>Gradient of the input, added to what is there or to <paramref name="residual"/>, or alone.</summary>
    public void BackwardInput(
        IKernels kernels, in Saved saved, Tensor gradOutput, Tensor gradInput, bool accumulate = false,
        Tensor residual = default) =>
        kernels.RmsNormBackwardInput(
            gradOutput, saved.Input, weight.Value, saved.InverseRms, gradInput, accumulate, residual);

    /// <summary>Adds the gradient of the scale.</summary>
    public void BackwardWeight(IKernels kernels, in Saved saved, Tensor gradOutput) =>
        kernels.RmsNormBackwardWeight(gradOutput, saved.Input, saved.InverseRms, weight.Gradient);
}
