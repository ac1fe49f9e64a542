using System.Globalization;

namespace Krewe.Gpu.Kernels.MatrixProduct;

/// <summary>How the groups of an FP8 matrix product lie; <c>KREWE_KIND</c> of the kernel.</summary>
public enum Fp8ProductKind
{
    /// <summary>One product.</summary>
    Dense,

    /// <summary>The rows of all groups one after the other, each group with its own weight.</summary>
    GroupedRows,

    /// <summary>Room for a fixed number of rows per group, of which a count on the device is valid.</summary>
    MaskedRows,

    /// <summary>One output per group, the sum running over the group's part of the depth: weight gradients.</summary>
    GroupedDepth,

    /// <summary>A list of products, each with operands, sizes and output of its own.</summary>
    Separate,
}

/// <summary>What an FP8 matrix product does with its result; <c>KREWE_OUTPUT</c> of the kernel.</summary>
public enum Fp8ProductOutput
{
    /// <summary>Overwrites bfloat16.</summary>
    BFloat16,

    /// <summary>Overwrites float32.</summary>
    Float32,

    /// <summary>Adds to float32; dense and grouped depth only. Separate products say it one by one.</summary>
    Float32Sum,
}

/// <summary>
/// One compiled variant of <c>Fp8MatrixProduct.cu</c>: what its launch needs, as the contract at the head of that file
/// has it.
/// </summary>
/// <param name="Kind">How the groups lie.</param>
/// <param name="Output">What becomes of the result.</param>
/// <param name="TileRows">Rows of the output that a block computes at a time: 64, 128 or 256.</param>
/// <param name="TileColumns">Columns of the output: 32, 64 or 128.</param>
/// <param name="Stages">Blocks of the depth in flight.</param>
/// <param name="RowScales">Whether the second operand has a scale per row and 128 of the depth, as weight gradients
/// have, instead of one per 128 x 128 tile.</param>
/// <param name="Cluster">Blocks side by side that share their rows of the first operand.</param>
public readonly record struct Fp8ProductVariant(
    Fp8ProductKind Kind, Fp8ProductOutput Output, int TileRows, int TileColumns, int Stages, bool RowScales,
    int Cluster = 2)
{
    /// <summary>Elements of the depth that share a scale, and bytes of an operand's row in a tile.</summary>
    public const int Block = 128;

    /// <summary>Rows of the boxes in which the output leaves.</summary>
    public const int OutputBoxRows = 8;

    private const int PatchBuffers = 3;
    private const int Warpgroup = 128;

    /// <summary>A tile of 128 rows reads the weight twice as often as one of 256; measured.</summary>
    private const double LowTileCost = 1.05;

    /// <summary>Threads of a block: a warpgroup that loads and two, with tiles of 64 rows one, that multiply.</summary>
    public int Threads => Warpgroup * (ConsumerWarpgroups + 1);

    /// <summary>Columns of the boxes in which the output leaves, each <see cref="OutputBoxRows"/> rows high; its
    /// swizzle is as wide as a row of the box.</summary>
    public int OutputBoxColumns => Math.Min(TileColumns, Block / OutputBytes);

    /// <summary>Rows of the first operand's boxes: a block's share.</summary>
    public int BoxRowsA => TileRows / Cluster;

    /// <summary>Dynamic shared memory of a block, bytes.</summary>
    public int SharedBytes
    {
        get
        {
            int scales = RowScales ? TileColumns * sizeof(float) : 0;
            int barriers = 2 * sizeof(long);
            int stage = (TileRows + TileColumns) * Block + TileRows * sizeof(float) + scales + barriers;
            int patches = ConsumerWarpgroups * 4 * PatchBuffers * OutputBoxRows * OutputBoxColumns * OutputBytes;
            return Stages * stage + patches + scales;
        }
    }

    /// <summary>Options of the run-time compiler, beside <c>sm_90a</c>.</summary>
    public IReadOnlyList<string> Options =>
    [
        Define("KIND", (int)Kind), Define("TILE_ROWS", TileRows), Define("TILE_COLUMNS", TileColumns),
        Define("CLUSTER", Cluster), Define("STAGES", Stages), Define("SCALES_B", RowScales ? 1 : 0),
        Define("OUTPUT", (int)Output), "--fmad=true",
    ];

    private int ConsumerWarpgroups => TileRows == 64 ? 1 : 2;

    private int OutputBytes => Output == Fp8ProductOutput.BFloat16 ? 2 : 4;

    /// <summary>The variant that measured fastest for a problem of this size on an H100.</summary>
    /// <param name="kind">How the groups lie.</param>
    /// <param name="output">What becomes of the result.</param>
    /// <param name="rowScales">Whether the second operand has a scale per row.</param>
    /// <param name="groups">Groups or separate products; 1 if dense.</param>
    /// <param name="rows">Rows of a group's output; where they differ, what a group has in the mean.</param>
    /// <param name="columns">Columns of the output.</param>
    /// <param name="multiprocessors">Streaming multiprocessors of the device.</param>
    public static Fp8ProductVariant Choose(
        Fp8ProductKind kind, Fp8ProductOutput output, bool rowScales, int groups, int rows, int columns,
        int multiprocessors)
    {
        if (kind == Fp8ProductKind.GroupedDepth)
        {
            return Cheaper(Tiles(256, 128, stages: 4), Tiles(128, 128, stages: 5));
        }

        // Few tiles: as narrow as it takes to give each multiprocessor one, so that all of them load.
        foreach ((int width, int stages) in (ReadOnlySpan<(int, int)>)[(32, 12), (64, 10), (128, 8)])
        {
            Fp8ProductVariant low = Tiles(64, width, stages);
            if (low.Units(groups, rows, columns) * low.Cluster <= multiprocessors)
            {
                return low;
            }
        }

        return rows <= 64
            ? Tiles(64, 128, stages: 8)
            : Cheaper(Tiles(256, 128, stages: 4), Tiles(128, 128, rowScales ? 5 : 6));

        // Of two blocks side by side the second would have nothing to compute.
        Fp8ProductVariant Tiles(int height, int width, int stages) =>
            new(kind, output, height, width, stages, rowScales, columns <= width ? 1 : 2);

        Fp8ProductVariant Cheaper(Fp8ProductVariant high, Fp8ProductVariant low) =>
            Cost(low) * LowTileCost < Cost(high) ? low : high;

        double Cost(Fp8ProductVariant variant)
        {
            long units = variant.Units(groups, rows, columns);
            long clusters = multiprocessors / variant.Cluster;
            return (units + clusters - 1) / clusters * (double)variant.TileRows;
        }
    }

    /// <summary>Blocks of the grid.</summary>
    /// <param name="residentClusters">Clusters of this variant that the device holds at once.</param>
    /// <param name="units">Sum of <see cref="Units"/> over all products.</param>
    public int GridBlocks(int residentClusters, long units) => Cluster * (
        Kind == Fp8ProductKind.GroupedRows ? residentClusters : (int)Math.Min(residentClusters, units));

    /// <summary>Pieces of work that clusters take one after the other: a tile's rows by a cluster's columns.</summary>
    /// <param name="groups">Groups; 1 if dense, or for one separate product.</param>
    /// <param name="rows">Rows of a group's output.</param>
    /// <param name="columns">Columns of the output.</param>
    public long Units(int groups, int rows, int columns) =>
        (long)groups * Covering(rows, TileRows) * Covering(columns, TileColumns * Cluster);

    private static int Covering(int count, int size) => (count + size - 1) / size;

    private static string Define(string name, int value) =>
        string.Create(CultureInfo.InvariantCulture, $"--define-macro=KREWE_{name}={value}");
}
