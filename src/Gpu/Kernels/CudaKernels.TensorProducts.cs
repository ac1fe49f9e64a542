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
    private readonly List<ProductOperands> _tensorProducts = [];
    private readonly List<DeviceTensorProduct> _deviceTensorProducts = [];
    private readonly List<int> _firstTiles = [];
    private readonly List<DeviceGather> _gathers = [];
    private readonly Dictionary<(nint Source, nint Rows, int Count), int> _gathered = [];
    private readonly Dictionary<BFloat16ProductVariant, (CudaKernel Kernel, int Blocks)> _tensorKernels = [];
    private CublasLt? _blas;
    private bool _lookedForBlas;

    private CudaKernel GatherBFloat16 =>
        field ??= _library.Kernel("MatrixProduct/GatherRows.cu", "gather_bfloat16");

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
            _lookedForBlas = true;
            if (CudaLibraries.Find(CudaLibraries.CublasLt, out nint handle) is not null)
            {
                _blas = new();
                CudaLibraries.Free(handle);
            }
        }

        return _blas;
    }

    /// <summary>Launches the products that were added.</summary>
    private void MultiplyOnTensorCores(ProductForm form)
    {
        if (_tensorProducts.Count == 0)
        {
            return;
        }

        using Scratch rows = Take(PlanGathers(), "rows of experts");
        LaunchGathers(rows.Address);
        LaunchTensorProducts(form, accumulate: false);
        LaunchTensorProducts(form, accumulate: true);
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

    private void LaunchTensorProducts(ProductForm form, bool accumulate)
    {
        _deviceTensorProducts.Clear();
        _firstTiles.Clear();
        Span<ProductOperands> products = CollectionsMarshal.AsSpan(_tensorProducts);
        foreach (ref readonly ProductOperands product in products)
        {
            if (product.Accumulate == accumulate)
            {
                // The maps follow when the tiles are known.
                Tensor result = product.Result;
                _deviceTensorProducts.Add(new(default, default, default, result.Rows, result.Columns, product.K));
            }
        }

        if (_deviceTensorProducts.Count == 0)
        {
            return;
        }

        Span<DeviceTensorProduct> entries = CollectionsMarshal.AsSpan(_deviceTensorProducts);
        BFloat16ProductVariant variant = BFloat16ProductVariant.Choose(form, accumulate, entries, _multiprocessors);
        int tiles = 0;
        int next = 0;
        foreach (ref readonly ProductOperands product in products)
        {
            if (product.Accumulate == accumulate)
            {
                ref DeviceTensorProduct entry = ref entries[next++];
                entry = Describe(Together(product), variant);
                _firstTiles.Add(tiles);
                tiles = checked(tiles + variant.Tiles(entry));
            }
        }

        (CudaKernel kernel, int blocks) = KernelOf(variant);
        KernelArguments arguments = new();
        arguments.Add(new DeviceProductList(
            Submission.Upload<DeviceTensorProduct>(entries),
            Submission.Upload<int>(CollectionsMarshal.AsSpan(_firstTiles)), entries.Length, tiles));
        arguments.Add(Submission.Fault);
        Launch(kernel, Rows(Math.Min(blocks, tiles), variant.Threads, variant.SharedBytes), ref arguments);
    }

    private static DeviceTensorProduct Describe(in ProductOperands product, BFloat16ProductVariant variant) => new(
        Map(product.Left, product.LeftAcross, variant.TileRows),
        Map(product.Right, product.RightAcross, variant.TileColumns),
        new(
            product.Result, BFloat16ProductVariant.ResultBoxRows, BFloat16ProductVariant.ResultBoxColumns,
            TensorMapSwizzle.Bytes128),
        product.Result.Rows, product.Result.Columns, product.K);

    private static CudaTensorMap Map(Tensor operand, bool across, int tile) => new(
        operand, across ? BFloat16ProductVariant.BlockDepth : tile, BFloat16ProductVariant.BlockDepth,
        TensorMapSwizzle.Bytes128);

    /// <summary>A variant, and its blocks that the device holds at once.</summary>
    private (CudaKernel Kernel, int Blocks) KernelOf(BFloat16ProductVariant variant)
    {
        if (!_tensorKernels.TryGetValue(variant, out (CudaKernel Kernel, int Blocks) found))
        {
            CudaKernel kernel = _library.Kernel(
                "MatrixProduct/BFloat16MatrixProduct.cu", "bfloat16_matrix_product", variant.Options);
            found = (kernel, _multiprocessors * kernel.BlocksPerMultiprocessor(variant.Threads, variant.SharedBytes));
            _tensorKernels.Add(variant, found);
        }

        return found;
    }
}
