using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels;

/// <content>Matrix products, normalisation, activation, elementwise kernels and the optimizer.</content>
internal static unsafe partial class KernelChecks
{
    internal static void Linear(Tensor input, Tensor weight, Tensor output)
    {
        Matrix(weight, weight.Rows, weight.Columns);
        Matrix(input, input.Rows, weight.Columns);
        Matrix(output, input.Rows, weight.Rows);
    }

    internal static void LinearBackwardInput(Tensor gradOutput, Tensor weight, Tensor gradInput)
    {
        Matrix(weight, weight.Rows, weight.Columns);
        Matrix(gradOutput, gradOutput.Rows, weight.Rows);
        Matrix(gradInput, gradOutput.Rows, weight.Columns);
    }

    internal static void LinearBackwardWeight(Tensor gradOutput, Tensor input, Tensor gradWeight)
    {
        Matrix(gradWeight, gradWeight.Rows, gradWeight.Columns);
        Matrix(gradOutput, gradOutput.Rows, gradWeight.Rows);
        Matrix(input, gradOutput.Rows, gradWeight.Columns);
    }

    internal static void GroupedLinear(ReadOnlySpan<GroupedProduct> products, IIndexChecks? values = null)
    {
        foreach (GroupedProduct product in products)
        {
            Matrix(product.Weight, product.Weight.Rows, product.Weight.Columns);
            Gathered(product, product.Weight.Columns, values);
            Matrix(product.Output, product.Output.Rows, product.Weight.Rows);
        }
    }

    internal static void GroupedLinearBackwardInput(
        ReadOnlySpan<GroupedProduct> products, IIndexChecks? values = null)
    {
        foreach (GroupedProduct product in products)
        {
            Matrix(product.Weight, product.Weight.Rows, product.Weight.Columns);
            Gathered(product, product.Weight.Rows, values);
            Matrix(product.Output, product.Output.Rows, product.Weight.Columns);
        }
    }

    internal static void GroupedLinearBackwardWeight(
        ReadOnlySpan<GroupedProduct> products, IIndexChecks? values = null)
        => GroupedLinear(products, values);

    /// <summary>The input has one row for each row of the output, straight or through the gather.</summary>
    private static void Gathered(GroupedProduct product, int columns, IIndexChecks? values)
    {
        if (product.InputRows.IsEmpty)
        {
            Matrix(product.Input, product.Output.Rows, columns);
            return;
        }

        Matrix(product.Input, product.Input.Rows, columns);
        RowNumbers(product.InputRows, product.Output.Rows, product.Input.Rows, values);
    }

    internal static void RmsNorm(Tensor input, Tensor weight, Tensor output, Tensor inverseRms)
    {
        Matrix(input, input.Rows, input.Columns);
        Vector(weight, input.Columns);
        Matrix(output, input.Rows, input.Columns);
        Vector(inverseRms, input.Rows);
    }

    internal static void RmsNormBackwardInput(
        Tensor gradOutput, Tensor input, Tensor weight, Tensor inverseRms, Tensor gradInput)
    {
        Matrix(input, input.Rows, input.Columns);
        Vector(weight, input.Columns);
        Matrix(gradOutput, input.Rows, input.Columns);
        Vector(inverseRms, input.Rows);
        Matrix(gradInput, input.Rows, input.Columns);
    }

    internal static void RmsNormBackwardWeight(Tensor gradOutput, Tensor input, Tensor inverseRms, Tensor gradWeight)
    {
        Matrix(input, input.Rows, input.Columns);
        Vector(gradWeight, input.Columns);
        Matrix(gradOutput, input.Rows, input.Columns);
        Vector(inverseRms, input.Rows);
    }

    internal static void SwiGlu(Tensor gate, Tensor up, Tensor output)
    {
        Matrix(gate, gate.Rows, gate.Columns);
        Matrix(up, gate.Rows, gate.Columns);
        Matrix(output, gate.Rows, gate.Columns);
    }

    internal static void SwiGluBackward(
        Tensor gradOutput, Tensor gate, Tensor up, Tensor gradGate, Tensor gradUp)
    {
        Matrix(gate, gate.Rows, gate.Columns);
        Matrix(up, gate.Rows, gate.Columns);
        Matrix(gradOutput, gate.Rows, gate.Columns);
        Matrix(gradGate, gate.Rows, gate.Columns);
        Matrix(gradUp, gate.Rows, gate.Columns);
    }

    internal static void Add(Tensor source, Tensor destination)
    {
        Matrix(source, source.Rows, source.Columns);
        Matrix(destination, source.Rows, source.Columns);
    }

    /// <summary>Any element type, the same on both sides.</summary>
    internal static void Copy(Tensor source, Tensor destination)
    {
        Matrix(source, source.Rows, source.Columns, source.DType, nameof(source));
        Matrix(destination, source.Rows, source.Columns, source.DType, nameof(destination));
    }

    internal static void Fill(Tensor destination) => Matrix(
        destination, destination.Rows, destination.Columns,
        destination.DType == DType.BFloat16 ? DType.BFloat16 : DType.Float32, nameof(destination));

    internal static void SumsOfSquares(ReadOnlySpan<Tensor> values, Span<double> sums)
    {
        if (sums.Length != values.Length)
        {
            throw new ArgumentException($"sums: expected {values.Length} sums, got {sums.Length}", nameof(sums));
        }

        foreach (Tensor tensor in values)
        {
            Matrix(tensor, tensor.Rows, tensor.Columns, nameof(values));
        }
    }

    internal static void AdamW(
        Tensor weight, Tensor gradient, Tensor firstMoment, Tensor secondMoment, in AdamWStep step)
    {
        Matrix(weight, weight.Rows, weight.Columns);
        Matrix(gradient, weight.Rows, weight.Columns);
        Moment(firstMoment, weight, nameof(firstMoment));
        Moment(secondMoment, weight, nameof(secondMoment));
        if (step.Step < 1)
        {
            throw new ArgumentException($"step: expected 1 or more, got {step.Step}", nameof(step));
        }
    }

    private static void Moment(Tensor moment, Tensor weight, string name)
        => Matrix(
            moment, weight.Rows, weight.Columns,
            moment.DType == DType.BFloat16 ? DType.BFloat16 : DType.Float32, name);
}
