using System.Runtime.CompilerServices;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels;

/// <content>Quantisation and products of quantised matrices.</content>
internal static unsafe partial class KernelChecks
{
    internal static void Quantize(
        Tensor source, Tensor rows, QuantizedTensor straight, QuantizedTensor transposed, IIndexChecks? values = null)
    {
        Matrix(source, source.Rows, source.Columns);
        int count = rows.IsEmpty ? source.Rows : checked((int)rows.Count);
        if (!rows.IsEmpty)
        {
            RowNumbers(rows, count, source.Rows, values);
        }

        if (straight.IsEmpty && transposed.IsEmpty)
        {
            throw new ArgumentException("straight: expected it, or transposed, got neither", nameof(straight));
        }

        if (!straight.IsEmpty)
        {
            Quantized(straight, count, source.Columns);
        }

        if (!transposed.IsEmpty)
        {
            Quantized(transposed, source.Columns, count);
        }
    }

    internal static void Dequantize(QuantizedTensor source, Tensor destination)
    {
        Quantized(source, source.Rows, source.Columns);
        Matrix(destination, source.Rows, source.Columns);
    }

    internal static void ScaledLinear(in ScaledProduct product, IIndexChecks? values = null)
    {
        QuantizedTensor input = product.Input;
        QuantizedTensor weight = product.Weight;
        int rows = product.Output.Rows;
        Quantized(weight, weight.Rows, weight.Columns);
        Quantized(input, product.InputRows.IsEmpty ? rows : input.Rows, weight.Columns);
        Range(product.Range, nameof(product.Range));
        Range(product.Depth, nameof(product.Depth));
        if (!product.InputRows.IsEmpty && product.Range.IsEmpty)
        {
            RowNumbers(product.InputRows, rows, input.Rows, values);
        }
        else if (!product.InputRows.IsEmpty)
        {
            Ints(product.InputRows, rows, nameof(product.InputRows));
        }

        if (!product.Depth.IsEmpty && (!product.Range.IsEmpty || !product.InputRows.IsEmpty))
        {
            throw new ArgumentException("Depth: expected it without Range and InputRows, got it beside one", nameof(product));
        }

        if (!product.Range.IsEmpty && input.Format.Rows != 1)
        {
            throw new ArgumentException(
                $"input: expected tiles of one row beside Range, got {input.Format.Rows}", nameof(product));
        }

        Matrix(product.Output, rows, weight.Rows);
        RequireFp8(input);
        RequireFp8(weight);
        if (input.Format.Columns != weight.Format.Columns)
        {
            throw new ArgumentException(
                $"input: expected tiles {weight.Format.Columns} wide as the weight's, got {input.Format.Columns}",
                nameof(product));
        }
    }

    internal static void GroupedScaledLinear(ReadOnlySpan<ScaledProduct> products, IIndexChecks? values = null)
    {
        foreach (ref readonly ScaledProduct product in products)
        {
            ScaledLinear(product, values);
        }
    }

    /// <summary>A dense quantised matrix of this many rows and columns with a scale for each tile.</summary>
    private static void Quantized(
        QuantizedTensor tensor, int rows, int columns, [CallerArgumentExpression(nameof(tensor))] string name = "")
    {
        if (tensor.Format.Rows < 1 || tensor.Format.Columns < 1)
        {
            throw new ArgumentException($"{name}: expected a positive tile, got {tensor.Format}", name);
        }

        Matrix(tensor.Codes, rows, columns, tensor.Format.Element, name);
        Matrix(
            tensor.Scales, tensor.Format.TileRows(rows), tensor.Format.TileColumns(columns), DType.Float32,
            name + " scales");
        Dense(tensor.Codes, name);
        Dense(tensor.Scales, name + " scales");
    }

    /// <summary>No tensor core multiplies anything between FP8 and BF16.</summary>
    private static void RequireFp8(
        QuantizedTensor tensor, [CallerArgumentExpression(nameof(tensor))] string name = "")
    {
        if (tensor.Format.Element is not (DType.Float8E4M3 or DType.Float8E5M2))
        {
            throw new ArgumentException($"{name}: expected Float8E4M3 or Float8E5M2, got {tensor.Codes.DType}", name);
        }
    }
}
