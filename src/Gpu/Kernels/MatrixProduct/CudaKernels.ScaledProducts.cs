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
    private bool _scaledPlaced;

    /// <summary>The variant of the last launch on the tensor cores; default before the first.</summary>
    public Fp8ProductVariant LastFp8Variant => _fp8Products?.LastVariant ?? default;

    private CudaKernel PlaceScaledProducts => field ??= _library.Kernel("MatrixProduct/ScaledProducts.cu", "place_scaled_products");

    private CudaKernel ScaledProductsKernel => field ??= _library.Kernel("MatrixProduct/ScaledProducts.cu", "scaled_products");

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
        int sharers = Sharers(products);
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
                int rows = product.Output.Rows;
                rows = product.Range.IsEmpty ? rows : (rows + sharers - 1) / sharers;
                _scaledProducts.Add(new(product, rows, _scaledTiles));
                _scaledTiles = checked(_scaledTiles + DeviceScaledProduct.Tiles(product, rows));
                _scaledPlaced |= !product.Range.IsEmpty || !product.Depth.IsEmpty;
            }
        }

        LaunchChecks();
        _fp8Products?.Launch(Submission, sharers);
        LaunchScaledProducts();
    }

    /// <summary>Launches the exact products that were added, all in one grid.</summary>
    private void LaunchScaledProducts()
    {
        if (_scaledProducts.Count == 0)
        {
            return;
        }

        (int count, int tiles, bool placed) = (_scaledProducts.Count, _scaledTiles, _scaledPlaced);
        (_scaledTiles, _scaledPlaced) = (0, false);
        if (placed)
        {
            _scaledProducts.Add(default);
        }

        nint products = Submission.Upload<DeviceScaledProduct>(CollectionsMarshal.AsSpan(_scaledProducts));
        _scaledProducts.Clear();
        KernelArguments arguments = new();
        if (placed)
        {
            arguments.Add(products);
            arguments.Add(count);
            Launch(PlaceScaledProducts, Rows(1, PlaceThreads), ref arguments);
            arguments = new();
        }

        arguments.Add(products);
        arguments.Add(count);
        arguments.Add(placed ? 1 : 0);
        arguments.Add(Submission.Fault);
        Launch(ScaledProductsKernel, Rows(tiles), ref arguments);
    }
}
