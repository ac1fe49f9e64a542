using System.Runtime.InteropServices;
using Krewe.Gpu.Driver;
using Krewe.Gpu.Kernels.MatrixProduct;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>Products of quantised matrices: <c>ScaledProducts.cu</c>, or on the tensor cores where those take them.
/// </content>
internal sealed partial class CudaKernels
{
    private readonly List<DeviceScaledProduct> _scaledProducts = [];
    private int _scaledTiles;

    private CudaKernel ScaledProductsKernel => field ??= _library.Kernel("ScaledProducts.cu", "scaled_products");

    /// <inheritdoc/>
    public void ScaledLinear(QuantizedTensor input, QuantizedTensor weight, Tensor output, bool accumulate = false)
    {
        var product = new ScaledProduct(input, weight, output, default, accumulate);
        GroupedScaledLinear(new ReadOnlySpan<ScaledProduct>(in product));
    }

    /// <inheritdoc/>
    public void GroupedScaledLinear(ReadOnlySpan<ScaledProduct> products)
    {
        KernelChecks.GroupedScaledLinear(products, this);
        foreach (ref readonly ScaledProduct product in products)
        {
            if (product.Output.Count == 0)
            {
                continue;
            }

            if (_fp8Products is not null && Fp8Products.Takes(product))
            {
                _fp8Products.Add(product);
            }
            else
            {
                _scaledProducts.Add(new(product, _scaledTiles));
                _scaledTiles = checked(_scaledTiles + DeviceScaledProduct.Tiles(product));
            }
        }

        _fp8Products?.Launch(Submission);
        LaunchScaledProducts();
    }

    /// <summary>Launches the exact products that were added, all in one grid.</summary>
    private void LaunchScaledProducts()
    {
        if (_scaledProducts.Count == 0)
        {
            return;
        }

        KernelArguments arguments = new();
        arguments.Add(Submission.Upload<DeviceScaledProduct>(CollectionsMarshal.AsSpan(_scaledProducts)));
        arguments.Add(_scaledProducts.Count);
        arguments.Add(Submission.Fault);
        int tiles = _scaledTiles;
        _scaledTiles = 0;
        _scaledProducts.Clear();
        Launch(ScaledProductsKernel, Rows(tiles), ref arguments);
    }
}
