using Krewe.Model.Tensors;

namespace Krewe.TestSupport;

/// <summary>Comparison of tensors in host memory; reports the first differing coordinate with both values.</summary>
public static unsafe class TensorAssert
{
    /// <summary>Relative tolerance of a result stored as <paramref name="dtype"/>.</summary>
    public static double Tolerance(DType dtype) => dtype switch
    {
        DType.Float32 => 2e-5,
        DType.Float16 => 2e-3,
        DType.BFloat16 => 1e-2,
        _ => 0,
    };

    /// <summary>
    /// Each value within relative * (|expected| + root mean square of all that is expected), so that a value which
    /// cancels to nearly nothing is judged by its neighbours; 0 asks for the same bits.
    /// </summary>
    public static void Close(Tensor expected, Tensor actual, double relative, string context)
    {
        SameShape(expected, actual, context);
        if (relative == 0)
        {
            Same(expected, actual, context);
            return;
        }

        double scale = RootMeanSquare(expected);
        for (int row = 0; row < expected.Rows; row++)
        {
            for (int column = 0; column < expected.Columns; column++)
            {
                double e = Read(expected, row, column);
                double a = Read(actual, row, column);
                double allowed = relative * (Math.Abs(e) + scale);
                if (!(Math.Abs(a - e) <= allowed) && !e.Equals(a))
                {
                    string detail = $", off by {a - e:g3}, allowed {allowed:g3}";
                    throw Differs(context, expected, row, column, e, a, detail);
                }
            }
        }
    }

    /// <summary>
    /// 1 - 2 sum(xy) / sum(x^2 + y^2): 0 for equal tensors, 2 for opposite ones. A NaN that both have, of memory that
    /// nobody writes, does not count; one that only one of them has makes the result NaN.
    /// </summary>
    public static double Difference(Tensor expected, Tensor actual)
    {
        double apart = 0, size = 0;
        for (int row = 0; row < expected.Rows; row++)
        {
            for (int column = 0; column < expected.Columns; column++)
            {
                double e = Read(expected, row, column);
                double a = Read(actual, row, column);
                if (double.IsNaN(e) && double.IsNaN(a))
                {
                    continue;
                }

                apart += (e - a) * (e - a);
                size += (e * e) + (a * a);
            }
        }

        return size == 0 ? 0 : apart / size;
    }

    /// <summary>The same bits, row by row; what lies between the rows is not looked at.</summary>
    public static void Same(Tensor expected, Tensor actual, string context)
    {
        SameShape(expected, actual, context);
        int bytes = expected.DType.SizeInBytes();
        for (int row = 0; row < expected.Rows; row++)
        {
            if (RowBytes(expected, row).SequenceEqual(RowBytes(actual, row)))
            {
                continue;
            }

            int column = RowBytes(expected, row).CommonPrefixLength(RowBytes(actual, row)) / bytes;
            throw Differs(
                context, expected, row, column, Read(expected, row, column), Read(actual, row, column),
                ", bits differ");
        }
    }

    /// <summary>The value at a coordinate; of a quantised element its code.</summary>
    public static double Read(Tensor tensor, int row, int column)
    {
        nint offset = ((nint)row * tensor.RowStride) + column;
        return tensor.DType switch
        {
            DType.Float32 => tensor.Floats[offset],
            DType.Int32 => tensor.Ints[offset],
            DType.BFloat16 => BitConverter.UInt32BitsToSingle((uint)((ushort*)tensor.Address)[offset] << 16),
            DType.Float16 => (double)((Half*)tensor.Address)[offset],
            DType.Float8E4M3 or DType.Float8E5M2 or DType.UInt8 => ((byte*)tensor.Address)[offset],
            DType.Float12E5M6 => ((ushort*)tensor.Address)[offset],
            _ => throw new NotSupportedException($"cannot read {tensor}"),
        };
    }

    /// <summary>Root of the mean square of all finite values.</summary>
    public static double RootMeanSquare(Tensor tensor)
    {
        double sum = 0;
        for (int row = 0; row < tensor.Rows; row++)
        {
            for (int column = 0; column < tensor.Columns; column++)
            {
                double value = Read(tensor, row, column);
                sum += double.IsFinite(value) ? value * value : 0;
            }
        }

        return Math.Sqrt(sum / Math.Max(1, tensor.Count));
    }

    private static ReadOnlySpan<byte> RowBytes(Tensor tensor, int row)
    {
        int bytes = tensor.DType.SizeInBytes();
        return new((byte*)tensor.Address + ((nint)row * tensor.RowStride * bytes), tensor.Columns * bytes);
    }

    private static void SameShape(Tensor expected, Tensor actual, string context)
    {
        if (expected.Shape != actual.Shape || expected.DType != actual.DType)
        {
            throw new TensorDifferenceException($"{context}: expected {expected}, got {actual}");
        }
    }

    private static TensorDifferenceException Differs(
        string context, Tensor tensor, int row, int column, double expected, double actual, string detail)
        => new(
            $"{context}: {tensor} differs first at [{row}, {column}]: expected {expected:r}, got {actual:r}{detail}");
}
