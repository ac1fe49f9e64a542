using System.Runtime.InteropServices;
using Krewe.Gpu.Driver;
using Krewe.Gpu.Kernels.MatrixProduct;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>
/// Matrix products. Float32 by <c>MatrixProducts.cu</c>, exact; bfloat16 on the tensor cores
/// (<c>CudaKernels.TensorProducts.cs</c>), or exact where its rows do not lie as those want them.
/// </content>
internal sealed partial class CudaKernels
{
    /// <summary>Few rows: tiles of 16 by 16.</summary>
    private const int FewRows = 16;
    private const int PlaceThreads = 1024;
    private readonly List<DeviceProduct> _products = [];
    private readonly List<DeviceProduct> _bfloat16Products = [];
    private readonly HashSet<nint> _sharedResults = [];

    private CudaKernel PlaceProducts => field ??= _library.Kernel("MatrixProducts.cu", "place_products");

    private ProductVariants LinearKernels => field ??= new(_library, "linear");

    private ProductVariants LinearBackwardInputKernels => field ??= new(_library, "linear_backward_input");

    private ProductVariants LinearBackwardWeightKernels => field ??= new(_library, "linear_backward_weight");

    /// <inheritdoc/>
    public void Linear(Tensor input, Tensor weight, Tensor output, bool accumulate = false)
    {
        KernelChecks.Linear(input, weight, output);
        MultiplyOne(ProductForm.Forward, new(input, weight, output, default, accumulate));
    }

    /// <inheritdoc/>
    public void LinearBackwardInput(Tensor gradOutput, Tensor weight, Tensor gradInput, bool accumulate = false)
    {
        KernelChecks.LinearBackwardInput(gradOutput, weight, gradInput);
        MultiplyOne(ProductForm.BackwardInput, new(gradOutput, weight, gradInput, default, accumulate));
    }

    /// <inheritdoc/>
    public void LinearBackwardWeight(Tensor gradOutput, Tensor input, Tensor gradWeight)
    {
        KernelChecks.LinearBackwardWeight(gradOutput, input, gradWeight);
        MultiplyOne(ProductForm.BackwardWeight, new(input, gradWeight, gradOutput));
    }

    /// <inheritdoc/>
    public void GroupedLinear(ReadOnlySpan<GroupedProduct> products)
    {
        KernelChecks.GroupedLinear(products, this);
        Multiply(ProductForm.Forward, products);
    }

    /// <inheritdoc/>
    public void GroupedLinearBackwardInput(ReadOnlySpan<GroupedProduct> products)
    {
        KernelChecks.GroupedLinearBackwardInput(products, this);
        Multiply(ProductForm.BackwardInput, products);
    }

    /// <inheritdoc/>
    public void GroupedLinearBackwardWeight(ReadOnlySpan<GroupedProduct> products)
    {
        KernelChecks.GroupedLinearBackwardWeight(products, this);
        Multiply(ProductForm.BackwardWeight, products);
    }

    private void MultiplyOne(ProductForm form, in GroupedProduct product)
    {
        if (!TryMultiplyByLibrary(new(form, product)))
        {
            Multiply(form, [product]);
        }
    }

    private void Multiply(ProductForm form, ReadOnlySpan<GroupedProduct> products)
    {
        int sharers = Sharers(products);
        foreach (ref readonly GroupedProduct product in products)
        {
            Add(new(form, product), sharers);
        }

        ProductVariants exact = form switch
        {
            ProductForm.Forward => LinearKernels,
            ProductForm.BackwardInput => LinearBackwardInputKernels,
            _ => LinearBackwardWeightKernels,
        };
        if (_products.Count > 0)
        {
            int tile = ChooseTile(CollectionsMarshal.AsSpan(_products));
            Launch(exact.Of(tile), tile, _products, form, sizeof(float));
        }

        if (_bfloat16Products.Count > 0)
        {
            Launch(exact.BFloat16, ProductVariants.Small, _bfloat16Products, form, sizeof(ushort));
        }

        MultiplyOnTensorCores(form, sharers);
    }

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

    private void Add(in ProductOperands p, int sharers)
    {
        if (p.Result.Count == 0)
        {
            return;
        }

        if (p.FitsTensorCores)
        {
            _tensorProducts.Add(p);
            return;
        }

        (p.Left.DType == DType.BFloat16 ? _bfloat16Products : _products).Add(new(
            p.Left.Address, p.Right.Address, p.Result.Address, p.Gather.Address, p.Range.Address, p.LikelyRows(sharers),
            p.Result.Columns, p.K, p.Left.RowStride, p.Right.RowStride, p.Result.RowStride, p.Accumulate ? 1 : 0, 0));
    }

    /// <summary>
    /// Launches exact products, all in one grid. Where some have ranges, a kernel ahead numbers the tiles, and the grid has as
    /// many blocks as those may be.
    /// </summary>
    private void Launch(CudaKernel kernel, int tile, List<DeviceProduct> list, ProductForm form, int elementBytes)
    {
        int count = list.Count, tiles = 0;
        bool placed = false;
        foreach (ref DeviceProduct product in CollectionsMarshal.AsSpan(list))
        {
            product = product with { FirstTile = tiles };
            tiles = checked(tiles + Tiles(product, tile));
            if (product.Range != 0)
            {
                // Each range ends in a tile that is not full.
                placed = true;
                tiles = checked(tiles + (int)Dim3.Cover(product.N, tile));
            }
        }

        if (placed)
        {
            list.Add(default);
        }

        nint products = Submission.Upload<DeviceProduct>(CollectionsMarshal.AsSpan(list));
        list.Clear();
        KernelArguments arguments = new();
        if (placed)
        {
            arguments.Add(products);
            arguments.Add(count);
            arguments.Add(tile);
            arguments.Add(form == ProductForm.BackwardWeight ? 1 : 0);
            arguments.Add(elementBytes);
            Launch(PlaceProducts, Rows(1, PlaceThreads), ref arguments);
            arguments = new();
        }

        arguments.Add(products);
        arguments.Add(count);
        arguments.Add(placed ? 1 : 0);
        arguments.Add(Submission.Fault);
        Launch(kernel, Rows(tiles), ref arguments);
    }

    /// <summary>The largest tile with which the products still fill the card.</summary>
    private int ChooseTile(ReadOnlySpan<DeviceProduct> products)
    {
        int mostRows = 0;
        long largeTiles = 0;
        foreach (ref readonly DeviceProduct product in products)
        {
            mostRows = Math.Max(mostRows, product.M);
            largeTiles += Tiles(product, ProductVariants.Large);
        }

        return mostRows <= FewRows ? ProductVariants.Few
            : largeTiles >= _multiprocessors ? ProductVariants.Large
            : ProductVariants.Small;
    }

    private static int Tiles(in DeviceProduct product, int tile) =>
        checked((int)(Dim3.Cover(product.M, tile) * Dim3.Cover(product.N, tile)));

    /// <summary>A product by the side of its tiles; all give the same bits.</summary>
    private sealed class ProductVariants(KernelLibrary library, string name)
    {
        public const int Few = 16;
        public const int Small = 64;
        public const int Large = 128;
        private readonly CudaKernel _few = library.Kernel("MatrixProducts.cu", $"{name}_{Few}");
        private readonly CudaKernel _small = library.Kernel("MatrixProducts.cu", $"{name}_{Small}");
        private readonly CudaKernel _large = library.Kernel("MatrixProducts.cu", $"{name}_{Large}");

        /// <summary>Operands in bfloat16, tiles of <see cref="Small"/>.</summary>
        public CudaKernel BFloat16 { get; } = library.Kernel("MatrixProducts.cu", $"{name}_bfloat16");

        public CudaKernel Of(int tile) => tile switch { Few => _few, Small => _small, _ => _large };
    }
}
