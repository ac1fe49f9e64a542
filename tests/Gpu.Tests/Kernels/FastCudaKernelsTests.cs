using Krewe.Gpu.Kernels;

namespace Krewe.Gpu.Tests.Kernels;

/// <summary>Matrix products on the tensor cores, where those take the operands.</summary>
public sealed class FastCudaKernelsTests() : CudaKernelsTests(ProductPath.Fast)
{
    protected override double ScaledProductDifference => 1e-6;
}
