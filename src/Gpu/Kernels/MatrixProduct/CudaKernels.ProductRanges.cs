using System.Runtime.InteropServices;
using Krewe.Gpu.Driver;
using Krewe.Gpu.Kernels.MatrixProduct;
using Krewe.Model.Kernels;

namespace Krewe.Gpu.Kernels;

/// <content>Products whose sizes only the device knows: ranges of rows of one result.</content>
internal sealed partial class CudaKernels
{
    private const int PlaceThreads = 1024;
    private readonly HashSet<nint> _sharedResults = [];

    private CudaKernel PlaceProducts => field ??= _library.Kernel("MatrixProduct/MatrixProducts.cu", "place_products");

    /// <summary>Products with ranges for each result that they share.</summary>
    private int Sharers(ReadOnlySpan<GroupedProduct> products)
    {
        int ranges = 0;
        _sharedResults.Clear();
        foreach (ref readonly GroupedProduct product in products)
        {
            if (!product.Range.IsEmpty)
            {
                ranges++;
                _ = _sharedResults.Add(product.Output.Address);
            }
        }

        return ranges == 0 ? 1 : ranges / _sharedResults.Count;
    }

    /// <summary>As the other <see cref="Sharers(ReadOnlySpan{GroupedProduct})"/>.</summary>
    private int Sharers(ReadOnlySpan<ScaledProduct> products)
    {
        int ranges = 0;
        _sharedResults.Clear();
        foreach (ref readonly ScaledProduct product in products)
        {
            if (!product.Range.IsEmpty)
            {
                ranges++;
                _ = _sharedResults.Add(product.Output.Address);
            }
        }

        return ranges == 0 ? 1 : ranges / _sharedResults.Count;
    }

    /// <summary>
    /// Where sizes are read on the device, a kernel ahead numbers the tiles, and the grid has as many blocks as those may be;
    /// a block takes all chains of its tile.
    /// </summary>
    private void LaunchRanges(CudaKernel kernel, int tile, List<DeviceProduct> list, bool sumsRows, int elementBytes)
    {
        int count = list.Count, tiles = 0;
        foreach (ref readonly DeviceProduct product in CollectionsMarshal.AsSpan(list))
        {
            // Each range ends in a tile that is not full.
            int last = product.Range == 0 || sumsRows ? 0 : (int)Dim3.Cover(product.N, tile);
            tiles = checked(tiles + Tiles(product, tile) + last);
        }

        // The entry behind the last takes the number of tiles.
        list.Add(default);
        nint products = Submission.Upload<DeviceProduct>(CollectionsMarshal.AsSpan(list));
        list.Clear();
        KernelArguments arguments = new();
        arguments.Add(products);
        arguments.Add(count);
        arguments.Add(tile);
        arguments.Add(sumsRows ? 1 : 0);
        arguments.Add(elementBytes);
        Launch(PlaceProducts, Rows(1, PlaceThreads), ref arguments);
        LaunchProducts(kernel, products, count, tiles, isPlaced: 1);
    }
}
