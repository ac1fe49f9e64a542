using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Reference;

/// <content>Matrix products: each element is one chain of fused multiply-adds over the inner dimension.</content>
public sealed unsafe partial class ReferenceKernels
{
    /// <inheritdoc/>
    public void Linear(Tensor input, Tensor weight, Tensor output, bool accumulate = false)
    {
        KernelChecks.Linear(input, weight, output);
        LinearRows(new(input, weight, output, default, accumulate));
    }

    /// <inheritdoc/>
    public void LinearBackwardInput(Tensor gradOutput, Tensor weight, Tensor gradInput, bool accumulate = false)
    {
        KernelChecks.LinearBackwardInput(gradOutput, weight, gradInput);
        LinearBackwardInputRows(new(gradOutput, weight, gradInput, default, accumulate));
    }

    /// <inheritdoc/>
    public void LinearBackwardWeight(Tensor gradOutput, Tensor input, Tensor gradWeight)
    {
        KernelChecks.LinearBackwardWeight(gradOutput, input, gradWeight);
        LinearBackwardWeightRows(new(input, gradWeight, gradOutput));
    }

    /// <inheritdoc/>
    public void GroupedLinear(ReadOnlySpan<GroupedProduct> products)
    {
        KernelChecks.GroupedLinear(products);
        foreach (GroupedProduct product in products)
        {
            LinearRows(product);
        }
    }

    /// <inheritdoc/>
    public void GroupedLinearBackwardInput(ReadOnlySpan<GroupedProduct> products)
    {
        KernelChecks.GroupedLinearBackwardInput(products);
        foreach (GroupedProduct product in products)
        {
            LinearBackwardInputRows(product);
        }
    }

    /// <inheritdoc/>
    public void GroupedLinearBackwardWeight(ReadOnlySpan<GroupedProduct> products)
    {
        KernelChecks.GroupedLinearBackwardWeight(products);
        foreach (GroupedProduct product in products)
        {
            LinearBackwardWeightRows(product);
        }
    }

    /// <summary>output[m, n] = sum over d of input[row(m), d] weight[n, d].</summary>
    private static void LinearRows(in GroupedProduct product)
    {
        for (int m = 0; m < product.Output.Rows; m++)
        {
            Span<float> input = InputRow(product, m);
            Span<float> output = product.Output.Row(m);
            for (int n = 0; n < output.Length; n++)
            {
                output[n] = Dot(input, product.Weight.Row(n), product.Accumulate ? output[n] : 0);
            }
        }
    }

    /// <summary>gradInput[m, d] = sum over n of gradOutput[row(m), n] weight[n, d].</summary>
    private static void LinearBackwardInputRows(in GroupedProduct product)
    {
        for (int m = 0; m < product.Output.Rows; m++)
        {
            Span<float> gradOutput = InputRow(product, m);
            Span<float> gradInput = product.Output.Row(m);
            if (!product.Accumulate)
            {
                gradInput.Clear();
            }

            for (int n = 0; n < gradOutput.Length; n++)
            {
                MultiplyAdd(gradOutput[n], product.Weight.Row(n), gradInput);
            }
        }
    }

    /// <summary>gradWeight[n, d] += sum over m of gradOutput[m, n] input[row(m), d], from the old gradient.</summary>
    private static void LinearBackwardWeightRows(in GroupedProduct product)
    {
        for (int m = 0; m < product.Output.Rows; m++)
        {
            Span<float> input = InputRow(product, m);
            Span<float> gradOutput = product.Output.Row(m);
            for (int n = 0; n < gradOutput.Length; n++)
            {
                MultiplyAdd(gradOutput[n], input, product.Weight.Row(n));
            }
        }
    }

    private static Span<float> InputRow(in GroupedProduct product, int m)
        => product.Input.Row(product.InputRows.IsEmpty ? m : product.InputRows.Ints[m]);
}
