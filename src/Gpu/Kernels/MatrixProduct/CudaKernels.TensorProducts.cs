using System.Runtime.InteropServices;
using Krewe.Gpu.Driver;
using Krewe.Gpu.Kernels.MatrixProduct;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>
/// Products of bfloat16 on the tensor cores: a single one by cuBLASLt, where the machine has it; many in one launch of
/// <c>BFloat16MatrixProduct.cu</c>, behind <c>GatherRows.cu</c> where rows lie apart.
/// </content>
internal sealed partial class CudaKernels
{
    private const int GatherWarps = BlockThreads / 32;
    private const int PieceBytes = 16;

    /// <summary>A warp for each of a product's three maps.</summary>
    private const int MapThreads = 96;
    private readonly List<ProductOperands> _tensorProducts = [];
    private readonly List<DeviceTensorProduct> _deviceTensorProducts = [];
    private readonly List<DeviceGather> _gathers = [];
    private readonly Dictionary<(nint Source, nint Rows, int Count), int> _gathered = [];
    private readonly Dictionary<BFloat16ProductVariant, TensorKernel> _tensorKernels = [];
    private CublasLt? _blas;
    private bool _lookedForBlas;

    private CudaKernel GatherBFloat16 =>
        field ??= _library.Kernel("MatrixProduct/GatherRows.cu", "gather_bfloat16");

    private CudaKernel BuildTensorMaps =>
        field ??= _library.Kernel("MatrixProduct/BuildTensorMaps.cu", "build_tensor_maps");

    /// <summary>Runs a product alone; says false where it is for the list.</summary>
    private bool TryMultiplyByLibrary(in ProductOperands product)
    {
        if (!product.FitsTensorCores || product.Result.Count == 0 || Blas() is not { } blas)
        {
            return false;
        }

        blas.Multiply(
            _stream, product.Left, product.LeftAcross, product.Right, product.RightAcross, product.Result,
            product.Accumulate);
        return true;
    }

    /// <summary>cuBLASLt, or null on a machine without it. It is large, and loaded when it is first asked for.</summary>
    private CublasLt? Blas()
    {
        if (!_lookedForBlas)
        {
            if (CudaLibraries.Find(CudaLibraries.CublasLt, out nint handle) is not null)
            {
                try
                {
                    _blas = new();
                }
                finally
                {
                    CudaLibraries.Free(handle);
                }
            }

            // Only now: where it does not start for want of memory, a later product asks again.
            _lookedForBlas = true;
        }

        return _blas;
    }

    /// <summary>Launches the products that were added.</summary>
    /// <param name="form">Which product.</param>
    /// <param name="sharers">Products with ranges that share a result.</param>
    private void MultiplyOnTensorCores(ProductForm form, int sharers)
    {
        if (_tensorProducts.Count == 0)
        {
            return;
        }

        using Scratch rows = Take(PlanGathers(), "rows of experts");
        LaunchGathers(rows.Address);
        LaunchTensorProducts(form, sharers, accumulate: false);
        LaunchTensorProducts(form, sharers, accumulate: true);
        _tensorProducts.Clear();
        _gathered.Clear();
        _gathers.Clear();
    }

    /// <summary>Collects what is to be gathered, the same rows once; gives the bytes they take together.</summary>
    private long PlanGathers()
    {
        long bytes = 0;
        int rows = 0;
        foreach (ref readonly ProductOperands product in CollectionsMarshal.AsSpan(_tensorProducts))
        {
            Tensor source = product.Gathered;
            int count = (int)product.Gather.Count;
            if (product.Gather.IsEmpty
                || !_gathered.TryAdd((source.Address, product.Gather.Address, count), _gathers.Count))
            {
                continue;
            }

            int pieces = PiecesOf(source.Columns);
            _gathers.Add(new(
                source.Address, product.Gather.Address, (nint)bytes, count, pieces, PiecesOf(source.RowStride), pieces,
                rows));
            bytes += (long)count * pieces * PieceBytes;
            rows += count;
        }

        return bytes;
    }

    private static int PiecesOf(int elements) => (int)Dim3.Cover(elements, PieceBytes / sizeof(ushort));

    private void LaunchGathers(nint room)
    {
        if (_gathers.Count == 0)
        {
            return;
        }

        Span<DeviceGather> gathers = CollectionsMarshal.AsSpan(_gathers);
        foreach (ref DeviceGather gather in gathers)
        {
            gather = gather with { Destination = room + gather.Destination };
        }

        int rows = gathers[^1].FirstRow + gathers[^1].Count;
        KernelArguments arguments = new();
        arguments.Add(Submission.Upload<DeviceGather>(gathers));
        arguments.Add(gathers.Length);
        arguments.Add(rows);
        arguments.Add(Submission.Fault);
        Launch(GatherBFloat16, new(new(Dim3.Cover(rows, GatherWarps)), new(BlockThreads)), ref arguments);
    }

    /// <summary>The product over rows that lie together.</summary>
    private ProductOperands Together(in ProductOperands product)
    {
        if (product.Gather.IsEmpty)
        {
            return product;
        }

        Tensor source = product.Gathered;
        int index = _gathered[(source.Address, product.Gather.Address, (int)product.Gather.Count)];
        DeviceGather gather = _gathers[index];
        return product.WithGathered(new(
            gather.Destination, new(gather.Count, source.Columns), DType.BFloat16,
            gather.DestinationPitch * (PieceBytes / sizeof(ushort))));
    }

    private void LaunchTensorProducts(ProductForm form, int sharers, bool accumulate)
    {
        _deviceTensorProducts.Clear();
        foreach (ref readonly ProductOperands product in CollectionsMarshal.AsSpan(_tensorProducts))
        {
            if (product.Accumulate == accumulate)
            {
                _deviceTensorProducts.Add(new(Together(product), sharers));
            }
        }

        Span<DeviceTensorProduct> products = CollectionsMarshal.AsSpan(_deviceTensorProducts);
        if (products.IsEmpty)
        {
            return;
        }

        BFloat16ProductVariant variant = BFloat16ProductVariant.Choose(form, accumulate, products, _multiprocessors);
        int tiles = 0;
        foreach (ref readonly DeviceTensorProduct product in products)
        {
            // Of a range as many as there may be: it ends in a tile that is not full.
            tiles = checked(tiles + variant.Tiles(product) + (product.Range == 0 ? 0 : variant.Tiles(product with { M = 1 })));
        }

        TensorKernel kernel = KernelOf(variant);
        int count = products.Length, mapBytes = count * DeviceTensorProduct.MapBytes;
        using Scratch maps = Take(mapBytes + ((count + 1) * sizeof(int)), "tensor maps of products");
        nint firstTiles = maps.Address + mapBytes;
        KernelArguments arguments = new();
        arguments.Add(kernel.Templates);
        arguments.Add(Submission.Upload<DeviceTensorProduct>(products));
        arguments.Add(maps.Address);
        arguments.Add(form == ProductForm.BackwardWeight ? 1 : 0);
        arguments.Add(form == ProductForm.Forward ? 0 : 1);
        arguments.Add(variant.TileRows);
        arguments.Add(variant.TileColumns);
        arguments.Add(firstTiles);
        Launch(BuildTensorMaps, Rows(count, MapThreads), ref arguments);
        arguments = new();
        arguments.Add(new DeviceProductList(maps.Address, firstTiles, count));
        arguments.Add(Submission.Fault);
        Launch(
            kernel.Kernel, Rows(Math.Min(kernel.Blocks, tiles), variant.Threads, variant.SharedBytes), ref arguments);
    }

    /// <summary>A variant's kernel and templates, made for any of its products.</summary>
    private TensorKernel KernelOf(BFloat16ProductVariant variant)
    {
        if (_tensorKernels.TryGetValue(variant, out TensorKernel found))
        {
            return found;
        }

        const string File = "MatrixProduct/BFloat16MatrixProduct.cu";
        if (_tensorKernels.Count == 0)
        {
            _library.Expect(File, BFloat16ProductVariant.OfTraining.Select(other => other.Options));
        }

        CudaKernel kernel = _library.Kernel(File, "bfloat16_matrix_product", variant.Options);
        int blocks = _multiprocessors * kernel.BlocksPerMultiprocessor(variant.Threads, variant.SharedBytes);
        DeviceTensorProduct first = _deviceTensorProducts[0];
        found = new(kernel, blocks, variant.Templates(first.A, first.B, first.C));
        _tensorKernels.Add(variant, found);
        return found;
    }

    /// <summary>A compiled variant.</summary>
    /// <param name="Kernel">The kernel.</param>
    /// <param name="Blocks">Blocks that the device holds at once.</param>
    /// <param name="Templates">What its products' maps are made from.</param>
    private readonly record struct TensorKernel(CudaKernel Kernel, int Blocks, DeviceMapTemplates Templates);
}
