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

    /// <summary>Where small tiles would use less than this part of the card, those of few rows use more of it.</summary>
    private const int IdleShare = 16;

    /// <summary>Blocks of a product that a multiprocessor holds.</summary>
    private const int BlocksOfMultiprocessor = 2;

    /// <summary>Most memory for chains that are computed side by side.</summary>
    private const long MostChainBytes = 512L << 20;
    private readonly List<DeviceProduct> _products = [];
    private readonly List<DeviceProduct> _bfloat16Products = [];

    private ProductVariants LinearKernels => field ??= new(_library, "linear");

    private ProductVariants LinearBackwardInputKernels => field ??= new(_library, "linear_backward_input");

    private ProductVariants LinearBackwardWeightKernels => field ??= new(_library, "linear_backward_weight");

    private CudaKernel AddChains => field ??= _library.Kernel("MatrixProduct/MatrixProducts.cu", "add_chains");

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
        if (!TryMultiplyFewRows(form, product) && !TryMultiplyByLibrary(new(form, product)))
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
        bool sumsRows = form == ProductForm.BackwardWeight;
        if (_products.Count > 0)
        {
            int tile = ChooseTile(CollectionsMarshal.AsSpan(_products), sumsRows);
            Launch(exact.Of(tile), tile, _products, sumsRows, sizeof(float));
        }

        if (_bfloat16Products.Count > 0)
        {
            Launch(exact.BFloat16, ProductVariants.Small, _bfloat16Products, sumsRows, sizeof(ushort));
        }

        MultiplyOnTensorCores(form, sharers);
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
            p.Left.Address, p.Right.Address, p.Result.Address, p.Gather.Address, p.Range.Address, 0, p.LikelyRows(sharers),
            p.Result.Columns, p.K, p.Left.RowStride, p.Right.RowStride, p.Result.RowStride, p.Accumulate ? 1 : 0, 0, 1));
    }

    /// <summary>Launches exact products, all in one grid.</summary>
    /// <param name="kernel">Which.</param>
    /// <param name="tile">Side of its tiles.</param>
    /// <param name="list">The products; cleared.</param>
    /// <param name="sumsRows">A weight gradient: where its tiles are few, each chain gets blocks of its own.</param>
    /// <param name="elementBytes">Bytes of an element of the operands.</param>
    private void Launch(CudaKernel kernel, int tile, List<DeviceProduct> list, bool sumsRows, int elementBytes)
    {
        if (list.Exists(product => product.Range != 0))
        {
            LaunchRanges(kernel, tile, list, sumsRows, elementBytes);
            return;
        }

        Span<DeviceProduct> products = CollectionsMarshal.AsSpan(list);
        using Scratch chains = Take(sumsRows ? PlanChains(products, tile) : 0, "chains of weight gradients");
        int tiles = 0;
        foreach (ref DeviceProduct product in products)
        {
            product = product with { FirstTile = tiles, Chains = chains.Address + product.Chains };
            tiles = checked(tiles + (Tiles(product, tile) * product.ChainBlocks));
        }

        LaunchProducts(kernel, Submission.Upload<DeviceProduct>(products), products.Length, tiles, isPlaced: 0);
        if (chains.Address != 0)
        {
            int pieces = 0;
            foreach (ref DeviceProduct product in products)
            {
                product = product with { FirstTile = pieces };
                pieces = checked(pieces + (product.M * (int)Dim3.Cover(product.N, BlockThreads)));
            }

            LaunchProducts(AddChains, Submission.Upload<DeviceProduct>(products), products.Length, pieces, isPlaced: null);
        }

        list.Clear();
    }

    private void LaunchProducts(CudaKernel kernel, nint products, int count, int blocks, int? isPlaced)
    {
        KernelArguments arguments = new();
        arguments.Add(products);
        arguments.Add(count);
        if (isPlaced is { } placed)
        {
            arguments.Add(placed);
        }

        arguments.Add(Submission.Fault);
        Launch(kernel, Rows(blocks), ref arguments);
    }

    /// <summary>
    /// Gives chains blocks of their own where the tiles alone do not fill the card; gives the bytes that all chains but the
    /// first take, the offsets in <see cref="DeviceProduct.Chains"/>.
    /// </summary>
    private long PlanChains(Span<DeviceProduct> products, int tile)
    {
        long tiles = 0;
        foreach (ref readonly DeviceProduct product in products)
        {
            tiles += Tiles(product, tile);
        }

        long bytes = 0;
        if (tiles >= BlocksOfMultiprocessor * _multiprocessors)
        {
            return bytes;
        }

        foreach (ref DeviceProduct product in products)
        {
            int blocks = ChainsOf(product);
            product = product with { ChainBlocks = blocks, Chains = (nint)bytes };
            bytes += (blocks - 1L) * product.M * product.N * sizeof(float);
        }

        if (bytes <= MostChainBytes)
        {
            return bytes;
        }

        foreach (ref DeviceProduct product in products)
        {
            product = product with { ChainBlocks = 1, Chains = 0 };
        }

        return 0;
    }

    private static int ChainsOf(in DeviceProduct product) =>
        Math.Max(1, (int)Dim3.Cover(product.K, IKernels.RowsOfChain));

    /// <summary>The largest tile with which the products still fill the card.</summary>
    private int ChooseTile(ReadOnlySpan<DeviceProduct> products, bool sumsRows)
    {
        int mostRows = 0, shortSide = 0;
        long largeTiles = 0, smallTiles = 0;
        foreach (ref readonly DeviceProduct product in products)
        {
            mostRows = Math.Max(mostRows, product.M);
            shortSide = Math.Max(shortSide, Math.Min(product.M, product.N));
            // Half of a large tile would lie idle where one side is that of a small one.
            int blocks = Math.Min(product.M, product.N) <= ProductVariants.Small ? 0 : sumsRows ? ChainsOf(product) : 1;
            largeTiles += (long)blocks * Tiles(product, ProductVariants.Large);
            smallTiles += (long)(sumsRows ? ChainsOf(product) : 1) * Tiles(product, ProductVariants.Small);
        }

        // A gate over the tokens of one step of decoding is one small tile: the smallest ones use more of the card.
        return mostRows <= FewRows || smallTiles * IdleShare <= _multiprocessors ? ProductVariants.Few
            : shortSide <= ProductVariants.Narrow ? ProductVariants.Narrow
            : largeTiles >= _multiprocessors ? ProductVariants.Large
            : ProductVariants.Small;
    }

    private static int Tiles(in DeviceProduct product, int tile) =>
        checked((int)(Dim3.Cover(product.M, tile) * Dim3.Cover(product.N, tile)));

    /// <summary>A product by the side of its tiles; all give the same bits.</summary>
    private sealed class ProductVariants(KernelLibrary library, string name)
    {
        public const int Few = 16;
        public const int Narrow = 32;
        public const int Small = 64;
        public const int Large = 128;
        private readonly CudaKernel _few = library.Kernel("MatrixProduct/MatrixProducts.cu", $"{name}_{Few}");
        private readonly CudaKernel _narrow = library.Kernel("MatrixProduct/MatrixProducts.cu", $"{name}_{Narrow}");
        private readonly CudaKernel _small = library.Kernel("MatrixProduct/MatrixProducts.cu", $"{name}_{Small}");
        private readonly CudaKernel _large = library.Kernel("MatrixProduct/MatrixProducts.cu", $"{name}_{Large}");

        /// <summary>Operands in bfloat16, tiles of <see cref="Small"/>.</summary>
        public CudaKernel BFloat16 { get; } = library.Kernel("MatrixProduct/MatrixProducts.cu", $"{name}_bfloat16");

        public CudaKernel Of(int tile) => tile switch { Few => _few, Narrow => _narrow, Small => _small, _ => _large };
    }
}
