using Krewe.Model.Kernels;

namespace Krewe.Model.Tensors;

/// <summary>Host copies of tensors, for checks and messages.</summary>
public static class TensorValues
{
    /// <summary>All elements of a tensor in host memory, row-major; Int32 values are converted.</summary>
    public static float[] ToFloats(Tensor tensor)
    {
        if (tensor.DType == DType.Int32)
        {
            return Converted(tensor.AsSpan<int>());
        }

        var values = new float[tensor.Count];
        for (int row = 0; row < tensor.Rows; row++)
        {
            tensor.Row(row).CopyTo(values.AsSpan(row * tensor.Columns));
        }

        return values;
    }

    /// <summary>As the other overload, of a dense tensor on a device that no submitted work changes at present.</summary>
    public static async Task<float[]> ToFloatsAsync(this IDevice device, Tensor tensor)
    {
        if (tensor.OnHost)
        {
            return ToFloats(tensor);
        }

        float[] values = [];
        await device.ReadAsync(kernels => values = tensor.DType == DType.Int32
            ? Converted(kernels.Read<int>(tensor))
            : kernels.Read<float>(tensor).ToArray());
        return values;
    }

    private static float[] Converted(ReadOnlySpan<int> source)
    {
        var values = new float[source.Length];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = source[i];
        }

        return values;
    }
}
