namespace Krewe.Gpu.Kernels;

/// <summary>How matrix products are computed where a card has more than one way.</summary>
public enum ProductPath
{
    /// <summary>On the tensor cores, where there are some that take the operands: sums in an order of their own, the
    /// same bits every time.</summary>
    Fast,

    /// <summary>In the order of <see cref="Model.Kernels.IKernels"/>, with the reference's bits: the yardstick.</summary>
    Exact,
}
