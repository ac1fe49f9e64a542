using System.Runtime.InteropServices;
using Krewe.Model.Kernels;

namespace Krewe.Model.Layers;

/// <summary>
/// Weight gradients of a layer's Linears: those in tiles in one launch, since each alone has few tiles and a depth of
/// all tokens; the others one by one.
/// </summary>
internal sealed class WeightGradients
{
    private readonly List<ScaledProduct> _scaled = [];

    /// <summary>Adds gradOutput^T input to the weight's gradient, at once or with <see cref="Launch"/>.</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="linear">The weight.</param>
    /// <param name="gradOutput">Made by <see cref="Operand.Gradient"/> for its precision.</param>
    /// <param name="input">Made ready by <see cref="Operand.ForWeightGradient"/>.</param>
    public void Add(IKernels kernels, Linear linear, in Operand gradOutput, in Operand input)
    {
        if (linear.Precision.IsTiled)
        {
            _scaled.Add(new(gradOutput.Columns, input.Columns, linear.Weight.Gradient, Accumulate: true, Splits: true));
        }
        else
        {
            linear.BackwardWeight(kernels, gradOutput, input);
        }
    }

    /// <summary>Runs what was added.</summary>
    public void Launch(IKernels kernels)
    {
        if (_scaled.Count > 0)
        {
            try
            {
                kernels.GroupedScaledLinear(CollectionsMarshal.AsSpan(_scaled));
            }
            finally
            {
                // Also where the call failed: the next one has operands of its own.
                _scaled.Clear();
            }
        }
    }
}
