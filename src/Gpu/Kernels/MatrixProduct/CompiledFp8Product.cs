using Krewe.Gpu.Driver;

namespace Krewe.Gpu.Kernels.MatrixProduct;

/// <summary>A variant of the FP8 product, compiled for this device.</summary>
internal sealed class CompiledFp8Product
{
    /// <summary>Compiles it, or takes it from the cache.</summary>
    public CompiledFp8Product(Fp8ProductVariant variant, KernelLibrary library)
    {
        Variant = variant;
        Kernel = library.Kernel("MatrixProduct/Fp8MatrixProduct.cu", "fp8_matrix_product", variant.Options);
        ResidentClusters = Kernel.ResidentClusters(Shape((uint)variant.Cluster));
    }

    /// <summary>What was compiled.</summary>
    public Fp8ProductVariant Variant { get; }

    /// <summary>The kernel.</summary>
    public CudaKernel Kernel { get; }

    /// <summary>Clusters that the device holds at once.</summary>
    public int ResidentClusters { get; }

    /// <summary>A launch of that many blocks.</summary>
    public LaunchShape Shape(uint blocks) => new(
        new(blocks), new((uint)Variant.Threads), Variant.SharedBytes, new((uint)Variant.Cluster), true);
}
