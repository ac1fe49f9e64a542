using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Reference;

/// <summary>
/// The oracle: every kernel as a plain loop on one thread, written to be read and checked by hand. Other backends are
/// tested against it, and it against finite differences.
/// </summary>
/// <remarks>Works on host memory. Stateless, so calls may run side by side on different tensors.</remarks>
public sealed unsafe partial class ReferenceKernels : IKernels
{
    /// <inheritdoc/>
    public string Name => "reference";

    /// <inheritdoc/>
    public DType BFloat16Storage => DType.Float32;

    /// <summary>Sum of a[i] b[i], a chain of fused multiply-adds in rising order from <paramref name="sum"/>.</summary>
    private static float Dot(ReadOnlySpan<float> a, ReadOnlySpan<float> b, float sum = 0)
    {
        for (int i = 0; i < a.Length; i++)
        {
            sum = MathF.FusedMultiplyAdd(a[i], b[i], sum);
        }

        return sum;
    }

    /// <summary>y += factor * x: one more link in the chain of every element of y.</summary>
    private static void MultiplyAdd(float factor, ReadOnlySpan<float> x, Span<float> y)
    {
        for (int i = 0; i < x.Length; i++)
        {
            y[i] = MathF.FusedMultiplyAdd(factor, x[i], y[i]);
        }
    }

    private static float Sigmoid(float x) => 1 / (1 + MathF.Exp(-x));

    private static Span<ushort> BFloat16Row(Tensor tensor, int row)
        => new((ushort*)tensor.Address + ((nint)row * tensor.RowStride), tensor.Columns);

    private static Span<int> IntRow(Tensor tensor, int row)
        => new(tensor.Ints + ((nint)row * tensor.RowStride), tensor.Columns);
}
