using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Reference;

/// <content>Quantised matrices and their products, element by element.</content>
public sealed unsafe partial class ReferenceKernels
{
    /// <inheritdoc/>
    public void Quantize(Tensor source, Tensor rows, QuantizedTensor straight, QuantizedTensor transposed)
    {
        KernelChecks.Quantize(source, rows, straight, transposed);
        if (!straight.IsEmpty)
        {
            QuantizeTiles(straight, 0, straight.Columns, (row, column) => At(source, rows, row)[column]);
        }

        if (!transposed.IsEmpty)
        {
            QuantizeTiles(transposed, 0, transposed.Columns, (row, column) => At(source, rows, column)[row]);
        }
    }

    /// <inheritdoc/>
    public void Dequantize(QuantizedTensor source, Tensor destination)
    {
        KernelChecks.Dequantize(source, destination);
        ReadOnlySpan<float> values = QuantizedElements.Table(source.Format.Element);
        for (int r = 0; r < source.Rows; r++)
        {
            Span<float> output = destination.Row(r);
            for (int c = 0; c < output.Length; c++)
            {
                output[c] = values[Code(source, r, c)] * Scale(source, r, c);
            }
        }
    }

    /// <inheritdoc/>
    public void RoundToBFloat16(Tensor source, Tensor destination)
    {
        KernelChecks.RoundToBFloat16(source, destination);
        for (int r = 0; r < source.Rows; r++)
        {
            Span<float> input = source.Row(r);
            if (destination.DType == DType.BFloat16)
            {
                BFloat16Format.Encode(input, BFloat16Row(destination, r));
                continue;
            }

            Span<float> output = destination.Row(r);
            for (int c = 0; c < input.Length; c++)
            {
                output[c] = BFloat16Format.Round(input[c]);
            }
        }
    }

    /// <inheritdoc/>
    public void ScaledLinear(QuantizedTensor input, QuantizedTensor weight, Tensor output, bool accumulate = false)
        => GroupedScaledLinear([new(input, weight, output, default, accumulate)]);

    /// <inheritdoc/>
    public void GroupedScaledLinear(ReadOnlySpan<ScaledProduct> products)
    {
        KernelChecks.GroupedScaledLinear(products);
        foreach (ScaledProduct whole in products)
        {
            ScaledProduct product = whole.Resolved();
            int first = product.Depth.IsEmpty ? 0 : product.Depth.Ints[0];
            int end = product.Depth.IsEmpty ? product.Weight.Columns : product.Depth.Ints[1];
            for (int m = 0; m < product.Output.Rows; m++)
            {
                int row = product.InputRows.IsEmpty ? m : product.InputRows.Ints[m];
                Span<float> output = product.Output.Row(m);
                for (int n = 0; n < output.Length; n++)
                {
                    output[n] = ScaledDot(
                        product.Input, row, product.Weight, n, first, end, product.Accumulate ? output[n] : 0);
                }
            }
        }
    }

    /// <summary>A chain over the codes of each slice under one pair of scales, promoted into the sum.</summary>
    private static float ScaledDot(
        QuantizedTensor a, int aRow, QuantizedTensor b, int bRow, int first, int end, float sum)
    {
        ReadOnlySpan<float> aValues = QuantizedElements.Table(a.Format.Element);
        ReadOnlySpan<float> bValues = QuantizedElements.Table(b.Format.Element);
        for (int start = first; start < end; start += a.Format.Columns)
        {
            float chain = 0;
            for (int k = start; k < Math.Min(end, start + a.Format.Columns); k++)
            {
                chain = MathF.FusedMultiplyAdd(aValues[Code(a, aRow, k)], bValues[Code(b, bRow, k)], chain);
            }

            sum = MathF.FusedMultiplyAdd(chain, Scale(a, aRow, start) * Scale(b, bRow, start), sum);
        }

        return sum;
    }

    /// <summary>Columns [<paramref name="first"/>, <paramref name="end"/>), which cut no tile.</summary>
    private static void QuantizeTiles(QuantizedTensor destination, int first, int end, Func<int, int, float> valueOf)
    {
        TileFormat format = destination.Format;
        for (int top = 0; top < destination.Rows; top += format.Rows)
        {
            int bottom = Math.Min(destination.Rows, top + format.Rows);
            for (int left = first; left < end; left += format.Columns)
            {
                int right = Math.Min(end, left + format.Columns);
                float max = 0;
                for (int r = top; r < bottom; r++)
                {
                    for (int c = left; c < right; c++)
                    {
                        max = Math.Max(max, Math.Abs(valueOf(r, c)));
                    }
                }

                float scale = format.ScaleOf(max);
                destination.Scales.Row(top / format.Rows)[left / format.Columns] = scale;
                for (int r = top; r < bottom; r++)
                {
                    for (int c = left; c < right; c++)
                    {
                        SetCode(destination, r, c, QuantizedElements.Encode(format.Element, valueOf(r, c) / scale));
                    }
                }
            }
        }
    }

    private static Span<float> At(Tensor source, Tensor rows, int row)
        => source.Row(rows.IsEmpty ? row : rows.Ints[row]);

    private static float Scale(QuantizedTensor tensor, int row, int column)
        => tensor.Scales.Row(row / tensor.Format.Rows)[column / tensor.Format.Columns];

    private static int Code(QuantizedTensor tensor, int row, int column)
    {
        nint index = ((nint)row * tensor.Columns) + column;
        return tensor.Codes.DType.SizeInBytes() == 1
            ? ((byte*)tensor.Codes.Address)[index]
            : ((ushort*)tensor.Codes.Address)[index] & 0xFFF;
    }

    private static void SetCode(QuantizedTensor tensor, int row, int column, uint code)
    {
        nint index = ((nint)row * tensor.Columns) + column;
        if (tensor.Codes.DType.SizeInBytes() == 1)
        {
            ((byte*)tensor.Codes.Address)[index] = (byte)code;
        }
        else
        {
            ((ushort*)tensor.Codes.Address)[index] = (ushort)code;
        }
    }
}
