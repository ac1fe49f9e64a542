using Krewe.Gpu.Kernels;

namespace Krewe.Gpu.Tests.Kernels;

/// <summary>Every matrix product with the reference's bits.</summary>
public sealed class ExactCudaKernelsTests() : CudaKernelsTests(ProductPath.Exact);
