using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Krewe.Model.Kernels.Cpu;

/// <summary>Blocked matrix products over the micro-kernel <typeparamref name="TKernel"/>.</summary>
/// <remarks>
/// <para>A task computes one tile of C from beginning to end. Per block of the inner dimension it packs its rows of A
/// once (they stay in the second-level cache) and one panel of B at a time (it stays in the first-level cache while all
/// rows pass over it). The product is never split along the inner dimension: the next block continues the chains from
/// C, so every element is one chain in rising order, whatever the blocking. Where a chain has a length, the later ones
/// are summed beside C and added to it.</para>
/// <para>Tiles depend on shapes alone. Two tasks may pack the same panel; with tiles of 192 rows that is about 3 % of
/// the time, less than sharing packed panels between threads would cost.</para>
/// </remarks>
internal static unsafe class MatrixProduct<TKernel> where TKernel : struct, IMicroKernel
{
    /// <summary>Most rows for which a product with a transposed right operand is done without packing.</summary>
    public const int FewRows = 4;

    private const int BlockDepth = 256;
    private const int MaxTileRows = 192;
    private const int MaxTileColumns = 256;

    /// <summary>A launch of fewer estimated nanoseconds stays on the calling thread: its master may have to wait for a
    /// helper that has claimed a part and lost its core. An estimate, not tuned.</summary>
    private const long MinParallelNanoseconds = 15_000;

    private const int MultiplyAddsPerNanosecond = 50;
    private const int WeightsPerNanosecond = 9;

    /// <summary>Runs all products of a launch as one loop over all tiles.</summary>
    public static void Launch(ComputePool pool, Product* products, int count)
    {
        long work = 0; // nanoseconds
        int full = 0;
        for (int i = 0; i < count; i++)
        {
            ref Product p = ref products[i];
            long weights = (long)p.N * p.K;
            work += p.M <= FewRows ? weights / WeightsPerNanosecond : p.M * weights / MultiplyAddsPerNanosecond;
            full += Divide(p.M, MaxTileRows) * Divide(p.N, MaxTileColumns);
        }

        int tasks = 0;
        for (int i = 0; i < count; i++)
        {
            ref Product p = ref products[i];
            Plan(ref p, fine: full < 8);
            p.FirstTask = tasks;
            tasks += Divide(p.M, p.TileRows) * Divide(p.N, p.TileColumns);
        }

        TileLoop loop = new(products, count);
        if (work < MinParallelNanoseconds)
        {
            for (int i = 0; i < tasks; i++)
            {
                loop.Run(i);
            }
        }
        else
        {
            pool.For(tasks, loop);
        }
    }

    /// <summary>The whole product on the calling thread.</summary>
    public static void Run(in Product p) => Tile(p, 0, p.M, 0, p.N);

    /// <summary>A tile of a product, chain by chain.</summary>
    private static void Chains(in Product p, int m0, int m1, int n0, int n1)
    {
        if (p.ChainLength == 0 || p.K <= p.ChainLength)
        {
            Tile(p, m0, m1, n0, n1);
            return;
        }

        int columns = n1 - n0;
        float* sums = Scratch.Current.Floats(ScratchUse.Chain, (long)(m1 - m0) * columns);
        Product part = p;
        part.K = p.ChainLength;
        Tile(part, m0, m1, n0, n1);
        part.CStride = columns;
        part.C = sums - ((nint)m0 * columns) - n0;
        part.Accumulate = false;
        for (int k = p.ChainLength; k < p.K; k += p.ChainLength)
        {
            part.K = Math.Min(p.ChainLength, p.K - k);
            part.A = p.A + ((nint)k * p.AStride);
            part.B = p.BRows == null ? p.B + ((nint)k * p.BStride) : p.B;
            part.BRows = p.BRows == null ? null : p.BRows + k;
            Tile(part, m0, m1, n0, n1);
            for (int m = m0; m < m1; m++)
            {
                Add(sums + ((nint)(m - m0) * columns), p.C + ((nint)m * p.CStride) + n0, columns);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Add(float* from, float* to, int count)
    {
        for (int i = 0; i < count; i += VectorMath.Width)
        {
            int left = count - i;
            VectorMath.Store(VectorMath.Load(to + i, left) + VectorMath.Load(from + i, left), to + i, left);
        }
    }

    private static int Divide(int value, int by) => (value + by - 1) / by;

    private static void Plan(ref Product p, bool fine)
    {
        if (p.M <= FewRows && p.BByColumn)
        {
            // Memory-bound: a task reads about a quarter of a megabyte of weights.
            p.TileRows = Math.Max(1, p.M);
            p.TileColumns = Math.Max(64, 65536 / Math.Max(1, p.K) / 64 * 64);
            return;
        }

        int maxRows = fine && p.M <= 2 * MaxTileRows ? 96 : MaxTileRows;
        int blocks = Math.Max(1, Divide(p.M, maxRows));
        p.TileRows = Math.Max(1, Divide(Divide(p.M, blocks), 12) * 12);
        p.TileColumns = fine ? MaxTileColumns / 2 : MaxTileColumns;
    }

    private static void Tile(in Product p, int m0, int m1, int n0, int n1)
    {
        if (p.M <= FewRows && p.BByColumn && Vector512.IsHardwareAccelerated)
        {
            FewRows512.Multiply(p, n0, n1);
            return;
        }

        Scratch scratch = Scratch.Current;
        int width = TKernel.Columns;
        float* edge = scratch.Floats(ScratchUse.EdgeTile, 16 * width);
        float* right = scratch.Floats(ScratchUse.PackedRight, (long)BlockDepth * width);
        bool aInPlace = p.AByColumn && n1 - n0 <= 3 * width;
        bool bInPlace = !p.BByColumn && p.BRows == null && m1 - m0 <= 36;
        float* left = aInPlace ? null : scratch.Floats(ScratchUse.PackedLeft, (long)(m1 - m0) * BlockDepth);

        int k0 = 0;
        do
        {
            int depth = Math.Min(BlockDepth, p.K - k0);
            if (!aInPlace)
            {
                PackLeft(p, m0, m1, k0, depth, left);
            }

            for (int n = n0; n < n1; n += width)
            {
                int columns = Math.Min(width, n1 - n);
                float* b = right;
                nint bStep = width;
                if (bInPlace && columns == width)
                {
                    b = p.B + ((nint)k0 * p.BStride) + n;
                    bStep = p.BStride;
                }
                else if (p.BByColumn)
                {
                    Packing.Transpose(p.B + ((nint)n * p.BStride) + k0, p.BStride, null, columns, depth, right, width);
                }
                else if (p.BRows != null)
                {
                    Packing.CopyRows(p.B + n, p.BStride, p.BRows + k0, columns, depth, right, width);
                }
                else
                {
                    Packing.CopyRows(
                        p.B + ((nint)k0 * p.BStride) + n, p.BStride, null, columns, depth, right, width);
                }

                bool load = p.Accumulate || k0 > 0;
                float* panel = left;
                for (int m = m0; m < m1;)
                {
                    int rows = TKernel.PanelRows(m1 - m);
                    float* a = aInPlace ? p.A + ((nint)k0 * p.AStride) + m : panel;
                    nint aStep = aInPlace ? p.AStride : rows;
                    float* c = p.C + ((nint)m * p.CStride) + n;
                    if (p.Skip == CausalSkip.None)
                    {
                        Multiply(rows, a, aStep, b, bStep, depth, c, p.CStride, columns, load, edge);
                    }
                    else if (p.Skip != CausalSkip.FutureColumns || n < m + rows + p.Diagonal)
                    {
                        // The terms left out are products with zero: the chain's bits stay.
                        int from = p.Skip == CausalSkip.PastQueries ? Math.Clamp(m - p.Diagonal - k0, 0, depth) : 0;
                        int to = p.Skip == CausalSkip.FutureKeys
                            ? Math.Clamp(m + rows + p.Diagonal - k0, 0, depth)
                            : depth;
                        Multiply(
                            rows, a + (from * aStep), aStep, b + (from * bStep), bStep, to - from, c, p.CStride,
                            columns, load, edge);
                    }

                    panel += rows * depth;
                    m += rows;
                }
            }

            k0 += depth;
        }
        while (k0 < p.K);
    }

    private static void PackLeft(in Product p, int m0, int m1, int k0, int depth, float* to)
    {
        for (int m = m0; m < m1;)
        {
            int rows = TKernel.PanelRows(m1 - m);
            if (p.AByColumn)
            {
                Packing.CopyRows(p.A + ((nint)k0 * p.AStride) + m, p.AStride, null, rows, depth, to, rows);
            }
            else if (p.ARows != null)
            {
                Packing.Transpose(p.A + k0, p.AStride, p.ARows + m, rows, depth, to, rows);
            }
            else
            {
                Packing.Transpose(p.A + ((nint)m * p.AStride) + k0, p.AStride, null, rows, depth, to, rows);
            }

            to += rows * depth;
            m += rows;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Multiply(
        int rows, float* a, nint aStep, float* b, nint bStep, int depth, float* c, nint cStep, int columns, bool load,
        float* edge)
    {
        if (columns == TKernel.Columns)
        {
            TKernel.Multiply(rows, a, aStep, b, bStep, depth, c, cStep, load);
        }
        else
        {
            Edge(rows, a, aStep, b, bStep, depth, c, cStep, columns, load, edge);
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Edge(
        int rows, float* a, nint aStep, float* b, nint bStep, int depth, float* c, nint cStep, int columns, bool load,
        float* edge)
    {
        int width = TKernel.Columns;
        for (int i = 0; load && i < rows; i++)
        {
            new Span<float>(c + (i * cStep), columns).CopyTo(new Span<float>(edge + (i * width), width));
        }

        TKernel.Multiply(rows, a, aStep, b, bStep, depth, edge, width, load);
        for (int i = 0; i < rows; i++)
        {
            new Span<float>(edge + (i * width), columns).CopyTo(new Span<float>(c + (i * cStep), columns));
        }
    }

    private readonly struct TileLoop(Product* products, int count) : ILoop
    {
        public void Run(int index)
        {
            int low = 0;
            int high = count - 1;
            while (low < high)
            {
                int middle = (low + high + 1) / 2;
                if (products[middle].FirstTask <= index)
                {
                    low = middle;
                }
                else
                {
                    high = middle - 1;
                }
            }

            ref Product p = ref products[low];
            int rowTiles = Divide(p.M, p.TileRows);
            int tile = index - p.FirstTask;
            int m = tile % rowTiles * p.TileRows;
            int n = tile / rowTiles * p.TileColumns;
            Chains(p, m, Math.Min(m + p.TileRows, p.M), n, Math.Min(n + p.TileColumns, p.N));
        }
    }
}
