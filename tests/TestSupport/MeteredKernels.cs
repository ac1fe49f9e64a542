using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.TestSupport;

/// <summary>Counts the multiply-adds of matrix products on their way to the real kernels; everything else is free.</summary>
/// <param name="inner">The real kernels.</param>
/// <param name="storage">What rounded operands are kept in, where it is not what the real kernels want.</param>
internal sealed class MeteredKernels(IKernels inner, DType? storage = null) : ForwardingKernels(inner)
{
    /// <summary>Multiply-adds so far.</summary>
    public long MultiplyAdds { get; private set; }

    public override DType BFloat16Storage => storage ?? base.BFloat16Storage;

    public override void Linear(Tensor input, Tensor weight, Tensor output, bool accumulate = false)
    {
        MultiplyAdds += input.Rows * weight.Count;
        base.Linear(input, weight, output, accumulate);
    }

    public override void LinearBackwardInput(Tensor gradOutput, Tensor weight, Tensor gradInput, bool accumulate = false)
    {
        MultiplyAdds += gradOutput.Rows * weight.Count;
        base.LinearBackwardInput(gradOutput, weight, gradInput, accumulate);
    }

    public override void LinearBackwardWeight(Tensor gradOutput, Tensor input, Tensor gradWeight)
    {
        MultiplyAdds += gradOutput.Rows * gradWeight.Count;
        base.LinearBackwardWeight(gradOutput, input, gradWeight);
    }

    public override void GroupedLinear(ReadOnlySpan<GroupedProduct> products)
    {
        Count(products);
        base.GroupedLinear(products);
    }

    public override void GroupedLinearBackwardInput(ReadOnlySpan<GroupedProduct> products)
    {
        Count(products);
        base.GroupedLinearBackwardInput(products);
    }

    public override void GroupedLinearBackwardWeight(ReadOnlySpan<GroupedProduct> products)
    {
        Count(products);
        base.GroupedLinearBackwardWeight(products);
    }

    public override void ScaledLinear(QuantizedTensor input, QuantizedTensor weight, Tensor output, bool accumulate = false)
    {
        MultiplyAdds += input.Rows * weight.Codes.Count;
        base.ScaledLinear(input, weight, output, accumulate);
    }

    public override void GroupedScaledLinear(ReadOnlySpan<ScaledProduct> products)
    {
        foreach (ref readonly ScaledProduct product in products)
        {
            MultiplyAdds += product.Output.Rows * product.Weight.Codes.Count;
        }

        base.GroupedScaledLinear(products);
    }

    private void Count(ReadOnlySpan<GroupedProduct> products)
    {
        foreach (GroupedProduct product in products)
        {
            MultiplyAdds += product.Output.Rows * product.Weight.Count;
        }
    }
}
