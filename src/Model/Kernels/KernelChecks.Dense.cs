using System.Runtime.CompilerServices;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels;

/// <content>Matrix products, normalisation, activation, elementwise kernels and the optimizer.</content>
internal static unsafe partial class KernelChecks
{
    internal static void Linear(Tensor input, Tensor weight, Tensor output)
    {
        Operand(weight, weight.Rows, weight.Columns, weight);
        Operand(input, input.Rows, weight.Columns, weight);
        Matrix(output, input.Rows, weight.Rows);
    }

    internal static void LinearBackwardInput(Tensor gradOutput, Tensor weight, Tensor gradInput)
    {
        Operand(weight, weight.Rows, weight.Columns, weight);
        Operand(gradOutput, gradOutput.Rows, weight.Rows, weight);
        Matrix(gradInput, gradOutput.Rows, weight.Columns);
    }

    internal static void LinearBackwardWeight(Tensor gradOutput, Tensor input, Tensor gradWeight)
    {
        Matrix(gradWeight, gradWeight.Rows, gradWeight.Columns);
        Operand(gradOutput, gradOutput.Rows, gradWeight.Rows, gradOutput);
        Operand(input, gradOutput.Rows, gradWeight.Columns, gradOutput);
    }

    internal static void GroupedLinear(ReadOnlySpan<GroupedProduct> products, IIndexChecks? values = null)
    {
        foreach (GroupedProduct product in products)
        {
            Operand(product.Weight, product.Weight.Rows, product.Weight.Columns, product.Weight);
            Gathered(product, product.Weight.Columns, product.Weight, values);
            Matrix(product.Output, product.Output.Rows, product.Weight.Rows);
        }
    }

    internal static void GroupedLinearBackwardInput(
        ReadOnlySpan<GroupedProduct> products, IIndexChecks? values = null)
    {
        foreach (GroupedProduct product in products)
        {
            Operand(product.Weight, product.Weight.Rows, product.Weight.Columns, product.Weight);
            Gathered(product, product.Weight.Rows, product.Weight, values);
            Matrix(product.Output, product.Output.Rows, product.Weight.Columns);
        }
    }

    internal static void GroupedLinearBackwardWeight(
        ReadOnlySpan<GroupedProduct> products, IIndexChecks? values = null)
    {
        foreach (GroupedProduct product in products)
        {
            Matrix(product.Weight, product.Weight.Rows, product.Weight.Columns);
            Gathered(product, product.Weight.Columns, product.Output, values);
            Operand(product.Output, product.Output.Rows, product.Weight.Rows, product.Output);
        }
    }

    /// <summary>The input has one row for each row of the output, straight or through the gather.</summary>
    private static void Gathered(GroupedProduct product, int columns, Tensor other, IIndexChecks? values)
    {
        Range(product.Range, nameof(product.Range));
        if (product.InputRows.IsEmpty)
        {
            Operand(product.Input, product.Output.Rows, columns, other);
            return;
        }

        Operand(product.Input, product.Input.Rows, columns, other);
        if (product.Range.IsEmpty)
        {
            RowNumbers(product.InputRows, product.Output.Rows, product.Input.Rows, values);
        }
        else
        {
            Ints(product.InputRows, product.Output.Rows, nameof(product.InputRows));
        }
    }

    /// <summary>A matrix of the type that the other operand has, BFloat16 or else Float32.</summary>
    private static void Operand(
        Tensor tensor, int rows, int columns, Tensor other, [CallerArgumentExpression(nameof(tensor))] string name = "")
        => Matrix(tensor, rows, columns, other.DType == DType.BFloat16 ? DType.BFloat16 : DType.Float32, name);

    internal static void RmsNorm(Tensor input, Tensor weight, Tensor output, Tensor inverseRms)
    {
        Matrix(input, input.Rows, input.Columns);
        Vector(weight, input.Columns);
        Stored(output, input, nameof(output));
        Vector(inverseRms, input.Rows);
    }

    internal static void RmsNormBackwardInput(
        Tensor gradOutput, Tensor input, Tensor weight, Tensor inverseRms, Tensor gradInput, Tensor residual)
    {
        Matrix(input, input.Rows, input.Columns);
        Vector(weight, input.Columns);
        Matrix(gradOutput, input.Rows, input.Columns);
        Vector(inverseRms, input.Rows);
        Matrix(gradInput, input.Rows, input.Columns);
        if (!residual.IsEmpty)
        {
            Matrix(residual, input.Rows, input.Columns);
        }
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
        Stored(output, gate, nameof(output));
    }

    internal static void SwiGluBackward(
        Tensor gradOutput, Tensor gate, Tensor up, Tensor gradGate, Tensor gradUp)
    {
        Matrix(gate, gate.Rows, gate.Columns);
        Matrix(up, gate.Rows, gate.Columns);
        Matrix(gradOutput, gate.Rows, gate.Columns);
        Stored(gradGate, gate, nameof(gradGate));
        Stored(gradUp, gate, nameof(gradUp));
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

    internal static void FillNormal(Tensor destination)
    {
        Matrix(destination, destination.Rows, destination.Columns);
        Dense(destination);
    }

    internal static void Fill(Tensor destination) =>
        Operand(destination, destination.Rows, destination.Columns, destination);

    /// <summary>To Float32, or to BFloat16.</summary>
    internal static void RoundToBFloat16(Tensor source, Tensor destination)
    {
        Matrix(source, source.Rows, source.Columns);
        Operand(destination, source.Rows, source.Columns, destination);
    }

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

    internal static void AdamW(ReadOnlySpan<AdamWParameter> parameters, in AdamWStep step)
    {
        foreach (ref readonly AdamWParameter parameter in parameters)
        {
            Tensor weight = parameter.Weight;
            Matrix(weight, weight.Rows, weight.Columns);
            Matrix(parameter.Gradient, weight.Rows, weight.Columns);
            Stored(parameter.FirstMoment, weight, nameof(parameter.FirstMoment));
            Stored(parameter.SecondMoment, weight, nameof(parameter.SecondMoment));
            if (!parameter.Rounded.IsEmpty)
            {
                Matrix(parameter.Rounded, weight.Rows, weight.Columns, DType.BFloat16, nameof(parameter.Rounded));
            }
        }

        if (step.Step < 1)
        {
            throw new ArgumentException($"step: expected 1 or more, got {step.Step}", nameof(step));
        }
    }

    /// <summary>A matrix of the same extent, in float32 or bfloat16.</summary>
    private static void Stored(Tensor tensor, Tensor like, string name)
        => Matrix(
            tensor, like.Rows, like.Columns, tensor.DType == DType.BFloat16 ? DType.BFloat16 : DType.Float32, name);
}
