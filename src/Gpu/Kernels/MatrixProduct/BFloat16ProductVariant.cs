using System.Globalization;
using Krewe.Gpu.Driver;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels.MatrixProduct;

/// <summary>
/// One compiled variant of <c>BFloat16MatrixProduct.cu</c>: what its launch needs, as the contract at the head of that
/// file has it.
/// </summary>
/// <param name="Form">Which product: how the operands lie.</param>
/// <param name="Accumulate">Adds to the result.</param>
/// <param name="TileRows">Rows of the result that a block computes at a time: 64, 128 or 256.</param>
/// <param name="TileColumns">Columns of the result: 64 or 128.</param>
/// <param name="Stages">Blocks of the depth in flight.</param>
internal readonly record struct BFloat16ProductVariant(
    ProductForm Form, bool Accumulate, int TileRows, int TileColumns, int Stages)
{
    /// <summary>Rows of the boxes in which the result leaves.</summary>
    public const int ResultBoxRows = 8;

    /// <summary>Columns of them.</summary>
    public const int ResultBoxColumns = 32;

    /// <summary>Elements of the inner dimension in a block, and of a row of an operand's box.</summary>
    private const int BlockDepth = 64;

    private const int BlockBytes = 128;
    private const int PatchBuffers = 3;
    private const int Warpgroup = 128;

    /// <summary>Tiles from the largest on, with the stages that fill a block's shared memory, or half of it.</summary>
    private static readonly (int Rows, int Columns, int Stages)[] _tiles =
        [(256, 128, 4), (128, 128, 6), (64, 128, 4), (64, 64, 6)];

    /// <summary>What training asks for where products are large: forward, data gradients, weight gradients.</summary>
    public static IEnumerable<BFloat16ProductVariant> OfTraining =>
        from product in new (ProductForm Form, bool Accumulates)[]
        {
            (ProductForm.Forward, false), (ProductForm.BackwardInput, false),
            (ProductForm.BackwardInput, true), (ProductForm.BackwardWeight, true),
        }
        from tile in _tiles.Take(2)
        select new BFloat16ProductVariant(product.Form, product.Accumulates, tile.Rows, tile.Columns, tile.Stages);

    /// <summary>Threads of a block: a warpgroup that loads and two, with tiles of 64 rows one, that multiply.</summary>
    public int Threads => Warpgroup * (Consumers + 1);

    /// <summary>Dynamic shared memory of a block, bytes.</summary>
    public int SharedBytes => (Stages * (((TileRows + TileColumns) * BlockBytes) + (2 * sizeof(long))))
        + (Consumers * 4 * PatchBuffers * ResultBoxRows * ResultBoxColumns * sizeof(float));

    /// <summary>Options of the run-time compiler.</summary>
    public IReadOnlyList<string> Options =>
    [
        Define("KIND", 0), Define("TILE_ROWS", TileRows), Define("TILE_COLUMNS", TileColumns), Define("CLUSTER", 1),
        Define("STAGES", Stages), Define("SCALES_B", 0), Define("OUTPUT", Accumulate ? 2 : 1),
        Define("ACROSS_A", Form == ProductForm.BackwardWeight ? 1 : 0),
        Define("ACROSS_B", Form == ProductForm.Forward ? 0 : 1),
    ];

    private int Consumers => TileRows == 64 ? 1 : 2;

    /// <summary>Blocks of this variant that a multiprocessor holds at once.</summary>
    private int Resident => TileRows == 64 ? 2 : 1;

    /// <summary>The variant whose last round of tiles ends first.</summary>
    /// <param name="form">Which product.</param>
    /// <param name="accumulate">Adds to the results.</param>
    /// <param name="products">Rows and columns of the results.</param>
    /// <param name="multiprocessors">Streaming multiprocessors of the device.</param>
    public static BFloat16ProductVariant Choose(
        ProductForm form, bool accumulate, ReadOnlySpan<DeviceTensorProduct> products, int multiprocessors)
    {
        BFloat16ProductVariant best = default;
        double least = double.MaxValue;
        foreach ((int rows, int columns, int stages) in _tiles)
        {
            var variant = new BFloat16ProductVariant(form, accumulate, rows, columns, stages);
            double cost = variant.Cost(products, multiprocessors);
            if (cost < least)
            {
                (best, least) = (variant, cost);
            }
        }

        return best;
    }

    /// <summary>Tensor maps with this variant's boxes, of matrices of one box at these addresses.</summary>
    public DeviceMapTemplates Templates(nint a, nint b, nint c)
    {
        int rowsA = Form == ProductForm.BackwardWeight ? BlockDepth : TileRows;
        int rowsB = Form == ProductForm.Forward ? TileColumns : BlockDepth;
        return new(
            Map(a, DType.BFloat16, rowsA, BlockDepth), Map(b, DType.BFloat16, rowsB, BlockDepth),
            Map(c, DType.Float32, ResultBoxRows, ResultBoxColumns));
    }

    /// <summary>Tiles of a product.</summary>
    public int Tiles(in DeviceTensorProduct product) =>
        checked(Covering(product.M, TileRows) * Covering(product.N, TileColumns));

    /// <summary>
    /// Rounds of tiles by what a tile takes: the elements it computes, and its operands, which a small tile reads more
    /// often.
    /// </summary>
    private double Cost(ReadOnlySpan<DeviceTensorProduct> products, int multiprocessors)
    {
        const double ReadCost = 16;
        long tiles = 0;
        foreach (ref readonly DeviceTensorProduct product in products)
        {
            tiles += Tiles(product);
        }

        double rounds = Math.Ceiling(tiles / (double)(multiprocessors * Resident));
        return rounds * Resident * ((TileRows * TileColumns) + (ReadCost * (TileRows + TileColumns)));
    }

    private static CudaTensorMap Map(nint address, DType type, int rows, int columns) => new(
        new(address, new(rows, columns), type), rows, columns, TensorMapSwizzle.Bytes128);

    private static int Covering(int count, int size) => (count + size - 1) / size;

    private static string Define(string name, int value) =>
        string.Create(CultureInfo.InvariantCulture, $"--define-macro=KREWE_{name}={value}");
}
