using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Krewe.Model.Precision;

namespace Krewe.Model.Kernels.Cpu;

/// <summary>Products of quantised operands over the micro-kernel <typeparamref name="TKernel"/>.</summary>
/// <remarks>
/// A task computes one tile of C. Per slice of the inner dimension it decodes and packs its rows of A once and one panel
/// of B at a time, multiplies the codes in registers from zero, and promotes the slice into C under both scales. Tiles
/// depend on shapes alone.
/// </remarks>
internal static unsafe class ScaledMatrixProduct<TKernel> where TKernel : struct, IMicroKernel
{
    private const int TileRows = 96;
    private const int TileColumns = 128;
    private const int MaxPanelRows = 16;

    /// <summary>A launch of fewer multiply-adds stays on the calling thread. An estimate, not tuned.</summary>
    private const long MinParallelMultiplyAdds = 400_000;

    /// <summary>Runs all products of a launch as one loop over all tiles.</summary>
    public static void Launch(ComputePool pool, ScaledOperands* products, int count)
    {
        int tasks = 0;
        long work = 0;
        for (int i = 0; i < count; i++)
        {
            ref ScaledOperands p = ref products[i];
            p.FirstTask = tasks;
            tasks += Divide(p.M, TileRows) * Divide(p.N, TileColumns);
            work += (long)p.M * p.N * p.K;
        }

        var loop = new TileLoop(products, count);
        if (work >= MinParallelMultiplyAdds)
        {
            pool.For(tasks, loop);
            return;
        }

        for (int i = 0; i < tasks; i++)
        {
            loop.Run(i);
        }
    }

    private static int Divide(int value, int by) => (value + by - 1) / by;

    private static void Tile(in ScaledOperands p, int m0, int m1, int n0, int n1)
    {
        Scratch scratch = Scratch.Current;
        int width = TKernel.Columns;
        float* decoded = scratch.Floats(ScratchUse.Decoded, (long)Math.Max(width, MaxPanelRows) * p.SliceDepth);
        float* left = scratch.Floats(ScratchUse.PackedLeft, (long)(m1 - m0) * p.SliceDepth);
        float* right = scratch.Floats(ScratchUse.PackedRight, (long)p.SliceDepth * width);
        float* chains = scratch.Floats(ScratchUse.EdgeTile, MaxPanelRows * width);
        float* scales = scratch.Floats(ScratchUse.ColumnScales, width);
        if (p.K == 0 && !p.Accumulate)
        {
            Clear(p, m0, m1, n0, n1);
        }

        for (int slice = 0, k0 = 0; k0 < p.K; slice++, k0 += p.SliceDepth)
        {
            int depth = Math.Min(p.SliceDepth, p.K - k0);
            PackLeft(p, m0, m1, k0, depth, decoded, left);
            for (int n = n0; n < n1; n += width)
            {
                int columns = Math.Min(width, n1 - n);
                Decode(p.B, n, columns, k0, depth, decoded);
                Packing.Transpose(decoded, depth, null, columns, depth, right, width);
                for (int j = 0; j < columns; j++)
                {
                    scales[j] = ScaleOf(p.B, n + j, slice);
                }

                float* panel = left;
                for (int m = m0; m < m1;)
                {
                    int rows = TKernel.PanelRows(m1 - m);
                    TKernel.Multiply(rows, panel, rows, right, width, depth, chains, width, load: false);
                    for (int i = 0; i < rows; i++)
                    {
                        Promote(
                            chains + (i * width), ScaleOf(p.A, m + i, slice), scales,
                            p.C + ((nint)(m + i) * p.CStride) + n, columns, add: p.Accumulate || slice > 0);
                    }

                    panel += rows * depth;
                    m += rows;
                }
            }
        }
    }

    private static void Clear(in ScaledOperands p, int m0, int m1, int n0, int n1)
    {
        for (int m = m0; m < m1; m++)
        {
            new Span<float>(p.C + ((nint)m * p.CStride) + n0, n1 - n0).Clear();
        }
    }

    private static void PackLeft(
        in ScaledOperands p, int m0, int m1, int k0, int depth, float* decoded, float* to)
    {
        for (int m = m0; m < m1;)
        {
            int rows = TKernel.PanelRows(m1 - m);
            Decode(p.A, m, rows, k0, depth, decoded);
            Packing.Transpose(decoded, depth, null, rows, depth, to, rows);
            to += rows * depth;
            m += rows;
        }
    }

    /// <summary>Values of the codes of some rows and one slice, [count, depth].</summary>
    private static void Decode(
        in ScaledOperands.Side side, int first, int count, int k0, int depth, float* to)
    {
        ReadOnlySpan<float> table = side.IsE5M2 ? Float8Format.E5M2Table : Float8Format.E4M3Table;
        for (int i = 0; i < count; i++)
        {
            byte* codes = side.Codes + ((nint)side.RowOf(first + i) * side.Pitch) + k0;
            QuantizedElements.DecodeBytes(new(codes, depth), new(to + (i * depth), depth), table, 1);
        }
    }

    private static float ScaleOf(in ScaledOperands.Side side, int row, int slice) =>
        side.Scales[((nint)(side.RowOf(row) / side.TileRows) * side.Slices) + slice];

    /// <summary>c[j] = fma(chains[j], rowScale * columnScales[j], c[j], or 0 where not <paramref name="add"/>).</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Promote(
        float* chains, float rowScale, float* columnScales, float* c, int columns, bool add)
    {
        Vector512<float> own = Vector512.Create(rowScale);
        for (int j = 0; j < columns; j += VectorMath.Width)
        {
            int rest = columns - j;
            Vector512<float> sum = add ? VectorMath.Load(c + j, rest) : default;
            Vector512<float> scale = own * VectorMath.Load(columnScales + j, rest);
            VectorMath.Store(
                Vector512.FusedMultiplyAdd(VectorMath.Load(chains + j, rest), scale, sum), c + j, rest);
        }
    }

    private readonly struct TileLoop(ScaledOperands* products, int count) : ILoop
    {
        public void Run(int index)
        {
            int item = 0;
            while (item + 1 < count && products[item + 1].FirstTask <= index)
            {
                item++;
            }

            ref ScaledOperands p = ref products[item];
            int rowTiles = Divide(p.M, TileRows);
            int tile = index - p.FirstTask;
            int m = tile % rowTiles * TileRows;
            int n = tile / rowTiles * TileColumns;
            Tile(p, m, Math.Min(m + TileRows, p.M), n, Math.Min(n + TileColumns, p.N));
        }
    }
}
