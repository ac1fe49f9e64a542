using Krewe.Gpu.Devices;
using Krewe.Gpu.Driver;
using Krewe.Gpu.Kernels.MatrixProduct;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <summary>
/// The kernels on CUDA: every call checks shapes on the host, lets a kernel check the values of index
/// tensors, and launches. Nothing waits, but for the calls that give values to the host (<see cref="Read"/>,
/// <see cref="SumsOfSquares"/>) or take very many from it (<see cref="Write"/>).
/// </summary>
/// <remarks>Called on the submitting thread of a <see cref="CudaDevice"/> only.</remarks>
internal sealed partial class CudaKernels : IKernels, IIndexChecks, IDisposable
{
    private const int BlockThreads = 256;
    private const int LeastCounters = 4096;
    private readonly CudaContext _context;
    private readonly DeviceLoss _loss;
    private readonly KernelLibrary _library;
    private readonly CudaMemoryPool _pool;
    private readonly CudaStream _stream;
    private readonly int _multiprocessors;
    private readonly Fp8Products? _fp8Products;
    private readonly bool _hasWarpgroups;
    private readonly List<CudaDeviceVariable<int>> _counters = [];

    /// <summary>The kernels of a device.</summary>
    /// <param name="context">Of the device.</param>
    /// <param name="library">Where kernels come from; owned.</param>
    /// <param name="pool">Where passing results lie.</param>
    /// <param name="stream">Where kernels run.</param>
    /// <param name="products">How products of quantised matrices are computed.</param>
    /// <param name="loss">Whether the device is lost.</param>
    public CudaKernels(
        CudaContext context, KernelLibrary library, CudaMemoryPool pool, CudaStream stream, ProductPath products,
        DeviceLoss loss)
    {
        _context = context;
        _loss = loss;
        _library = library;
        _pool = pool;
        _stream = stream;
        _multiprocessors = context.Multiprocessors;
        _fp8Products = products == ProductPath.Fast && Fp8Products.RunsOn(context.ComputeCapability)
            ? new(library, pool, stream, _multiprocessors)
            : null;
        if (_fp8Products is not null)
        {
            library.Expect(PieceKernels.File, [PieceKernels.OptionOf(DeviceElement.E4M3)]);
            library.Expect(PieceKernels.ExpertsFile, [PieceKernels.OptionOf(DeviceElement.E4M3)]);
            library.Expect(CompiledFp8Product.File, Fp8ProductVariant.OfTraining.Select(variant => variant.Options));
        }

        _hasWarpgroups = context.ComputeCapability.Major == 9;
        Name = $"cuda/sm_{context.ComputeCapability.Major}{context.ComputeCapability.Minor}";
    }

    /// <inheritdoc/>
    public string Name { get; }

    /// <summary>The work that is being submitted.</summary>
    public CudaSubmission Submission
    {
        get;
        set
        {
            Forget();
            field = value;
        }
    } = null!;

    /// <summary>Launches what waits for a kernel that did not come.</summary>
    public void Complete() => LaunchChecks();

    /// <inheritdoc/>
    public void Dispose()
    {
        _writing?.Dispose();
        _fp8Products?.Dispose();
        _blas?.Dispose();
        _counters.ForEach(counters => counters.Dispose());
        _library.Dispose();
    }

    /// <summary>Drops what a call that failed has left.</summary>
    private void Forget()
    {
        _indexChecks.Clear();
        _indexCheckBlocks = 0;
        _products.Clear();
        _scaledProducts.Clear();
        (_scaledTiles, _scaledPlaced) = (0, false);
        _fp8Products?.Forget();
        _bfloat16Products.Clear();
        _tensorProducts.Clear();
        _gathered.Clear();
        _gathers.Clear();
    }

    private static DeviceMatrix Device(Tensor tensor) => new(tensor);

    private static LaunchShape Elements(Tensor tensor) =>
        new(new(Dim3.Cover(tensor.Count, BlockThreads)), new(BlockThreads));

    /// <summary>A block for each row.</summary>
    private static LaunchShape Rows(int rows, int threads = BlockThreads, int sharedBytes = 0) =>
        new(new((uint)rows), new((uint)threads), sharedBytes);

    private void Launch(CudaKernel kernel, in LaunchShape shape, ref KernelArguments arguments)
    {
        LaunchChecks();
        kernel.Launch(_stream, shape, ref arguments);
    }

    /// <summary>
    /// Integers that are zero, with which the blocks of a kernel count those that are done; it leaves them zero again. The
    /// same ones for every kernel: they run one after the other. Those that were too few stay, for recorded kernels have
    /// their address.
    /// </summary>
    private nint Counters(int count)
    {
        if (_counters.Count == 0 || _counters[^1].Count < count)
        {
            CudaDeviceVariable<int> counters = new(Math.Max(count, LeastCounters), "counters of kernels");
            _counters.Add(counters);
            _stream.Fill(counters.Address, 0, counters.Bytes);
        }

        return _counters[^1].Address;
    }

    /// <summary>Device memory until the kernels submitted in its scope are done.</summary>
    private Scratch Take(long bytes, string purpose) => new(this, bytes, purpose);

    private readonly ref struct Scratch(CudaKernels kernels, long bytes, string purpose)
    {
        public nint Address { get; } = bytes == 0 ? 0 : kernels._pool.Allocate(bytes, kernels._stream, purpose);

        public void Dispose()
        {
            if (Address != 0)
            {
                _ = kernels._pool.TryFree(Address, kernels._stream);
            }
        }
    }
}
