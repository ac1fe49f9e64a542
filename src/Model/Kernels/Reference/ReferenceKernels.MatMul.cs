using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Reference;

/// <content>
/// Matrix products: each element is one chain of fused multiply-adds over the inner dimension; of a weight gradient, one
/// for each <see cref="IKernels.RowsOfChain"/> rows.
/// </content>
public sealed unsafe partial class ReferenceKernels
{
    /// <inheritdoc/>
    public void Linear(Tensor input, Tensor weight, Tensor output, bool accumulate = false)
    {
        KernelChecks.Linear(input, weight, output);
        Run([new(input, weight, output, default, accumulate)], LinearRows);
    }

    /// <inheritdoc/>
    public void LinearBackwardInput(Tensor gradOutput, Tensor weight, Tensor gradInput, bool accumulate = false)
    {
        KernelChecks.LinearBackwardInput(gradOutput, weight, gradInput);
        Run([new(gradOutput, weight, gradInput, default, accumulate)], LinearBackwardInputRows);
    }

    /// <inheritdoc/>
    public void LinearBackwardWeight(Tensor gradOutput, Tensor input, Tensor gradWeight)
    {
        KernelChecks.LinearBackwardWeight(gradOutput, input, gradWeight);
        Run([new(input, gradWeight, gradOutput)], LinearBackwardWeightRows);
    }

    /// <inheritdoc/>
    public void GroupedLinear(ReadOnlySpan<GroupedProduct> products)
    {
        KernelChecks.GroupedLinear(products);
        Run(products, LinearRows);
    }

    /// <inheritdoc/>
    public void GroupedLinearBackwardInput(ReadOnlySpan<GroupedProduct> products)
    {
        KernelChecks.GroupedLinearBackwardInput(products);
        Run(products, LinearBackwardInputRows);
    }

    /// <inheritdoc/>
    public void GroupedLinearBackwardWeight(ReadOnlySpan<GroupedProduct> products)
    {
        KernelChecks.GroupedLinearBackwardWeight(products);
        Run(products, LinearBackwardWeightRows);
    }

    private delegate void ProductRows(in GroupedProduct product);

    /// <summary>Multiplies float32; bfloat16 is widened, which is exact.</summary>
    private static void Run(ReadOnlySpan<GroupedProduct> products, ProductRows multiply)
    {
        using var widened = new HostArena("widened operands");
        foreach (GroupedProduct whole in products)
        {
            GroupedProduct product = whole.Resolved();
            multiply(product with
            {
                Input = Widen(product.Input, widened),
                Weight = Widen(product.Weight, widened),
                Output = Widen(product.Output, widened),
            });
        }
    }

    private static Tensor Widen(Tensor tensor, HostArena arena)
    {
        if (tensor.DType == DType.Float32)
        {
            return tensor;
        }

        Tensor wide = arena.Allocate(tensor.Rows, tensor.Columns);
        for (int row = 0; row < tensor.Rows; row++)
        {
            BFloat16Format.Decode(BFloat16Row(tensor, row), wide.Row(row));
        }

        return wide;
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

    /// <summary>
    /// gradWeight[n, d] += sum over m of gradOutput[m, n] input[row(m), d]: the first chain from the old gradient, then
    /// the others in rising order.
    /// </summary>
    private static void LinearBackwardWeightRows(in GroupedProduct product)
    {
        int rows = product.Output.Rows;
        AddRows(product, 0, Math.Min(rows, IKernels.RowsOfChain), product.Weight);
        using var arena = new HostArena("a chain of a weight gradient");
        for (int start = IKernels.RowsOfChain; start < rows; start += IKernels.RowsOfChain)
        {
            arena.Reset();
            Tensor chain = arena.Allocate(product.Weight.Rows, product.Weight.Columns);
            chain.AsSpan<float>().Clear();
            AddRows(product, start, Math.Min(rows, start + IKernels.RowsOfChain), chain);
            for (int n = 0; n < chain.Rows; n++)
            {
                Span<float> gradWeight = product.Weight.Row(n);
                for (int d = 0; d < gradWeight.Length; d++)
                {
                    gradWeight[d] += chain.Row(n)[d];
                }
            }
        }
    }

    /// <summary>sums[n, d] += gradOutput[m, n] input[row(m), d] over rows [start, end), one chain.</summary>
    private static void AddRows(in GroupedProduct product, int start, int end, Tensor sums)
    {
        for (int m = start; m < end; m++)
        {
            Span<float> input = InputRow(product, m);
            Span<float> gradOutput = product.Output.Row(m);
            for (int n = 0; n < gradOutput.Length; n++)
            {
                MultiplyAdd(gradOutput[n], input, sums.Row(n));
            }
        }
    }

    private static Span<float> InputRow(in GroupedProduct product, int m)
        => product.Input.Row(product.InputRows.IsEmpty ? m : product.InputRows.Ints[m]);
}
