using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>A weight [N, D] and its three products in a chosen precision.</summary>
public sealed class Linear
{
    private readonly WeightCast? _cast;

    internal Linear(Parameter weight, ProductPrecision precision, WeightCast? cast)
    {
        Weight = weight;
        Precision = precision;
        _cast = cast;
    }

    /// <summary>The float32 master.</summary>
    public Parameter Weight { get; }

    /// <summary>What the operands are rounded to.</summary>
    public ProductPrecision Precision { get; }

    /// <summary>N.</summary>
    public int Outputs => Weight.Shape.D0;

    /// <summary>D.</summary>
    public int Inputs => Weight.Shape.D1;

    /// <summary>output[M, N] = input[M, D] weight^T.</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="input">Made by <see cref="Operand.Input"/> for this precision.</param>
    /// <param name="output">[M, N]; overwritten, or added to.</param>
    /// <param name="accumulate">Adds to the output.</param>
    public void Forward(IKernels kernels, in Operand input, Tensor output, bool accumulate = false)
    {
        if (Precision.IsTiled)
        {
            kernels.ScaledLinear(input.Rows, Rows(kernels), output, accumulate);
        }
        else
        {
            kernels.Linear(input.Values, Values(kernels), output, accumulate);
        }
    }

    /// <summary>gradInput[M, D] = gradOutput[M, N] weight.</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="gradOutput">Made by <see cref="Operand.Gradient"/> for this precision.</param>
    /// <param name="gradInput">[M, D]; overwritten, or added to.</param>
    /// <param name="accumulate">Adds to gradInput.</param>
    public void BackwardInput(IKernels kernels, in Operand gradOutput, Tensor gradInput, bool accumulate = false)
    {
        if (Precision.IsTiled)
        {
            kernels.ScaledLinear(gradOutput.Rows, Columns(kernels), gradInput, accumulate);
        }
        else
        {
            kernels.LinearBackwardInput(gradOutput.Values, Values(kernels), gradInput, accumulate);
        }
    }

    /// <summary>Adds gradOutput^T input to the weight's gradient.</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="gradOutput">As given to <see cref="BackwardInput"/>.</param>
    /// <param name="input">Made ready by <see cref="Operand.ForWeightGradient"/>.</param>
    public void BackwardWeight(IKernels kernels, in Operand gradOutput, in Operand input)
    {
        if (Precision.IsTiled)
        {
            kernels.ScaledLinear(gradOutput.Columns, input.Columns, Weight.Gradient, accumulate: true);
        }
        else
        {
            kernels.LinearBackwardWeight(gradOutput.Values, input.Values, Weight.Gradient);
        }
    }

    /// <summary>[N, D]: the weight as a product without tiles reads it.</summary>
    internal Tensor Values(IKernels kernels) => _cast is null ? Weight.Value : _cast.Values(kernels);

    /// <summary>[N, D]: the weight's values as the products see them, in float32.</summary>
    internal Tensor Floats(IKernels kernels) => _cast is null ? Weight.Value : _cast.Floats(kernels);

    /// <summary>[N, D] in tiles, for the forward.</summary>
    internal QuantizedTensor Rows(IKernels kernels) => _cast!.Rows(kernels);

    /// <summary>[D, N] in tiles, for the data gradient.</summary>
    internal QuantizedTensor Columns(IKernels kernels) => _cast!.Columns(kernels);
}
