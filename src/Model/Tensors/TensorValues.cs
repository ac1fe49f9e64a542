namespace Krewe.Model.Tensors;

/// <summary>Host copies of tensors, for checks and messages.</summary>
public static class TensorValues
{
    /// <summary>All elements, row-major; Int32 values are converted.</summary>
    public static float[] ToFloats(Tensor tensor)
    {
        var values = new float[tensor.Count];
        if (tensor.DType == DType.Int32)
        {
            Span<int> source = tensor.AsSpan<int>();
            for (int i = 0; i < values.Length; i++)
            {
                values[i] = source[i];
            }

            return values;
        }

        for (int row = 0; row < tensor.Rows; row++)
        {
            tensor.Row(row).CopyTo(values.AsSpan(row * tensor.Columns));
        }

        return values;
    }
}
