using System.Runtime.InteropServices;
using Krewe.Gpu.Devices;
using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels.MatrixProduct;

/// <summary>
/// Products of FP8 matrices on the tensor cores: collects them, copies codes that no tensor map can describe
/// (<c>PackOperands.cu</c>) and launches all in one grid (<c>Fp8MatrixProduct.cu</c>). One product goes as a kernel's
/// parameter, several as a list in device memory. Scratch memory lives until the kernels are done.
/// </summary>
/// <remarks>On the submitting thread. Allocates nothing on the managed heap once its lists have grown.</remarks>
internal sealed partial class Fp8Products(
    KernelLibrary library, CudaMemoryPool pool, CudaStream stream, int multiprocessors) : IDisposable
{
    private const int Block = Fp8ProductVariant.Block;
    private const int PlaceThreads = 32;
    private const int OutputAlignment = 16;
    private const nint AnyAddress = 1 << 20;

    private readonly TensorMapCache _maps = new();
    private readonly Dictionary<Fp8ProductVariant, CompiledFp8Product> _compiled = [];
    private readonly List<ScaledProduct> _tileScaled = [];
    private readonly List<ScaledProduct> _rowScaled = [];
    private readonly List<Fp8Product> _products = [];

    private CudaKernel PlaceKernel =>
        field ??= library.Kernel("MatrixProduct/PlaceFp8Products.cu", "place_fp8_products");

    /// <summary>Whether cards of this compute capability have the instructions.</summary>
    public static bool RunsOn(Version computeCapability) => computeCapability is { Major: 9, Minor: 0 };

    /// <summary>
    /// Whether the tensor cores' kernel takes a product: E4M3, 1x128 by 128x128 or 1x128, into rows that start at
    /// multiples of 16 bytes and have no rest beyond them, since the copy engine writes 16 bytes at a time.
    /// </summary>
    public static bool Takes(in ScaledProduct product) =>
        product.Input.Format is { Element: DType.Float8E4M3, Rows: 1, Columns: Block }
        && product.Weight.Format is { Element: DType.Float8E4M3, Rows: 1 or Block, Columns: Block }
        && product.Weight.Columns > 0
        && (product.Depth.IsEmpty || product.Weight.Format.Rows == 1)
        && product.Output.Address % OutputAlignment == 0
        && product.Output.Columns * sizeof(float) % OutputAlignment == 0
        && product.Output.RowStride * sizeof(float) % OutputAlignment == 0;

    /// <summary>Adds a product that <see cref="Takes"/> is true of, with an output that is not empty.</summary>
    public void Add(in ScaledProduct product) =>
        (HasRowScales(product) ? _rowScaled : _tileScaled).Add(product);

    /// <summary>Launches what was added.</summary>
    /// <param name="submission">The work.</param>
    /// <param name="sharers">Products with ranges of rows that share an output.</param>
    public void Launch(CudaSubmission submission, int sharers)
    {
        Launch(submission, _tileScaled, rowScales: false, sharers);
        Launch(submission, _rowScaled, rowScales: true, sharers);
    }

    /// <summary>Drops what a call that failed has left.</summary>
    public void Forget()
    {
        _tileScaled.Clear();
        _rowScaled.Clear();
    }

    /// <summary>Gives the scratch memory back.</summary>
    public void Dispose()
    {
        if (_keptScratch != 0)
        {
            _ = pool.TryFree(_keptScratch, stream);
            _keptScratch = 0;
        }
    }

    private static bool HasRowScales(in ScaledProduct product) => product.Weight.Format.Rows == 1;

    /// <summary>Rows of a product's output, as far as the host knows them.</summary>
    private static int LikelyRows(in ScaledProduct product, int sharers) =>
        product.Range.IsEmpty ? product.Output.Rows : (product.Output.Rows + sharers - 1) / sharers;

    private void Launch(CudaSubmission submission, List<ScaledProduct> list, bool rowScales, int sharers)
    {
        if (list.Count == 0)
        {
            return;
        }

        ReadOnlySpan<ScaledProduct> products = CollectionsMarshal.AsSpan(list);
        (CompiledFp8Product compiled, long units) = Choose(products, rowScales, sharers);
        (long bytes, _) = Plan(products, AnyAddress);
        nint scratch = TakeScratch(bytes + BytesOfSlices(products));
        try
        {
            (_, int pieces) = Plan(products, scratch);
            Describe(compiled.Variant, products, scratch + (nint)bytes);
            bool placed = _products.Exists(product => product.Arguments.IsPlaced);
            nint uploaded = _products.Count > 1 || placed
                ? submission.Upload<Fp8Product>(CollectionsMarshal.AsSpan(_products))
                : 0;
            if (placed)
            {
                Place(uploaded);
            }

            Pack(submission, pieces);
            Multiply(submission, compiled, units, uploaded);
            AddUp(submission);
        }
        finally
        {
            GiveScratch(scratch);
            list.Clear();
        }
    }

    /// <summary>The variant for these products, and its pieces of work.</summary>
    private (CompiledFp8Product Compiled, long Units) Choose(
        ReadOnlySpan<ScaledProduct> products, bool rowScales, int sharers)
    {
        long rows = 0;
        int columns = 0, parts = 0;
        foreach (ref readonly ScaledProduct product in products)
        {
            int slices = SlicesOf(product);
            parts += slices;
            rows += (long)slices * LikelyRows(product, sharers);
            columns = Math.Max(columns, product.Output.Columns);
        }

        var variant = Fp8ProductVariant.Choose(
            Fp8ProductKind.Separate, Fp8ProductOutput.Float32, rowScales, parts, (int)((rows + parts - 1) / parts),
            columns, multiprocessors);
        if (!_compiled.TryGetValue(variant, out CompiledFp8Product? compiled))
        {
            compiled = new(variant, library);
            _compiled.Add(variant, compiled);
        }

        long units = 0;
        foreach (ref readonly ScaledProduct product in products)
        {
            units += variant.Units(SlicesOf(product), LikelyRows(product, sharers), product.Output.Columns)
                + (product.Range.IsEmpty ? 0 : variant.Units(1, 1, product.Output.Columns));
        }

        return (compiled, units);
    }

    /// <summary>Has the device's own sizes read.</summary>
    private void Place(nint products)
    {
        KernelArguments arguments = new();
        arguments.Add(products);
        PlaceKernel.Launch(stream, new(new((uint)_products.Count), new(PlaceThreads)), ref arguments);
    }

    /// <summary>Starts during the end of the kernel before.</summary>
    private void Multiply(CudaSubmission submission, CompiledFp8Product compiled, long units, nint uploaded)
    {
        KernelArguments arguments = new();
        arguments.Add(_products[0]);
        arguments.Add(uploaded);
        arguments.Add(_products.Count);
        arguments.Add(submission.Fault);
        int blocks = compiled.Variant.GridBlocks(compiled.ResidentClusters, units);
        compiled.Kernel.Launch(stream, compiled.Shape((uint)blocks), ref arguments);
    }

    /// <summary>Lists the products, those in slices one by one, with room for the slices' sums.</summary>
    private void Describe(Fp8ProductVariant variant, ReadOnlySpan<ScaledProduct> products, nint room)
    {
        _products.Clear();
        _sliced.Clear();
        for (int i = 0; i < products.Length; i++)
        {
            (PackedOperand a, PackedOperand b) = _operands[i];
            int slices = SlicesOf(products[i]);
            if (slices > 1)
            {
                room = DescribeSlices(variant, products[i], a, b, slices, room);
            }
            else
            {
                _products.Add(Describe(variant, products[i], a, b));
            }
        }
    }

    private Fp8Product Describe(
        Fp8ProductVariant variant, in ScaledProduct product, in PackedOperand a, in PackedOperand b)
    {
        Tensor output = product.Output;
        return new()
        {
            A = _maps.Of(a.Codes, variant.BoxRowsA, Block, TensorMapSwizzle.Bytes128),
            B = _maps.Of(b.Codes, variant.TileColumns, Block, TensorMapSwizzle.Bytes128),
            Output = _maps.Of(
                output, Fp8ProductVariant.OutputBoxRows, variant.OutputBoxColumns, TensorMapSwizzle.Bytes128),
            Arguments = new(
                a.Scales, product.Weight.Scales.Address, output.Address, 0, 1, output.Rows, output.Columns,
                product.Weight.Columns, output.RowStride, product.Input.Scales.Columns, product.Weight.Scales.Columns,
                product.Accumulate ? 1 : 0, 0, 0, BlocksOf(product), product.Range.Address, product.Depth.Address),
        };
    }
}
