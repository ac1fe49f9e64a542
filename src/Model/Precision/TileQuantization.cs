using System.Numerics;

namespace Krewe.Model.Precision;

/// <summary>
/// FP8 E4M3 with one float32 scale per tile (report 3.3.2): 128x128 for weights, 1x128 for activations and output
/// gradients. scale = max|x| / 448, code = round(x / scale), value = code * scale. Edge tiles are smaller.
/// </summary>
/// <remarks>A tile of zeros has scale 1. Powers of two (ue8m0) round the scale up.</remarks>
public static class TileQuantization
{
    /// <summary>Side of a tile.</summary>
    public const int TileSize = 128;

    /// <summary>Tiles over <paramref name="extent"/> elements, the last one possibly short.</summary>
    public static int TileCount(int extent, int tileSize = TileSize) => (extent + tileSize - 1) / tileSize;

    /// <summary>Quantises a weight matrix in tiles of 128x128.</summary>
    /// <param name="weight">[rows, columns].</param>
    /// <param name="rows">Outputs.</param>
    /// <param name="columns">Inputs.</param>
    /// <param name="codes">[rows, columns], E4M3.</param>
    /// <param name="scales">[ceil(rows/128), ceil(columns/128)], the dequantisation multipliers.</param>
    /// <param name="powerOfTwo">Scales are rounded up to powers of two.</param>
    public static void QuantizeBlocks(
        ReadOnlySpan<float> weight, int rows, int columns, Span<byte> codes, Span<float> scales,
        bool powerOfTwo = false)
    {
        Quantize(weight, rows, columns, TileSize, codes, scales, powerOfTwo, 0);
    }

    /// <summary>Quantises rows in tiles of 1x128.</summary>
    /// <param name="values">[rows, columns].</param>
    /// <param name="rows">Tokens.</param>
    /// <param name="columns">Channels.</param>
    /// <param name="codes">[rows, columns], E4M3.</param>
    /// <param name="scales">[rows, ceil(columns/128)].</param>
    /// <param name="powerOfTwo">Scales are rounded up to powers of two.</param>
    /// <param name="smallestMax">Lower bound of max|x|; DeepSeek's activation kernel takes 1e-4.</param>
    public static void QuantizeRows(
        ReadOnlySpan<float> values, int rows, int columns, Span<byte> codes, Span<float> scales,
        bool powerOfTwo = false, float smallestMax = 0)
    {
        Quantize(values, rows, columns, 1, codes, scales, powerOfTwo, smallestMax);
    }

    /// <summary>values = codes * scales over blocks of any size, as released checkpoints store them.</summary>
    /// <param name="codes">[rows, columns].</param>
    /// <param name="scales">[ceil(rows/blockRows), ceil(columns/blockColumns)].</param>
    /// <param name="rows">Outputs.</param>
    /// <param name="columns">Inputs.</param>
    /// <param name="values">[rows, columns]; overwritten.</param>
    /// <param name="table">Decode table of the format.</param>
    /// <param name="blockRows">Rows of a block.</param>
    /// <param name="blockColumns">Columns of a block.</param>
    public static void Dequantize(
        ReadOnlySpan<byte> codes, ReadOnlySpan<float> scales, int rows, int columns, Span<float> values,
        ReadOnlySpan<float> table, int blockRows = TileSize, int blockColumns = TileSize)
    {
        int tiles = TileCount(columns, blockColumns);
        Require(codes.Length, values.Length, scales.Length, rows, columns, TileCount(rows, blockRows) * tiles);
        for (int row = 0; row < rows; row++)
        {
            for (int tile = 0; tile < tiles; tile++)
            {
                int start = tile * blockColumns;
                int offset = (row * columns) + start;
                int count = Math.Min(blockColumns, columns - start);
                float scale = scales[(row / blockRows * tiles) + tile];
                Float8Format.Decode(codes.Slice(offset, count), values[offset..], table, scale);
            }
        }
    }

    /// <summary>The smallest power of two not below <paramref name="scale"/>, as ue8m0 keeps scales.</summary>
    public static float CeilingPowerOfTwo(float scale)
    {
        uint bits = BitConverter.SingleToUInt32Bits(scale);
        uint exponent = (bits >> 23) + ((bits & 0x7F_FFFF) != 0 ? 1u : 0u);
        return BitConverter.UInt32BitsToSingle(Math.Clamp(exponent, 1, 254) << 23);
    }

    private static void Quantize(
        ReadOnlySpan<float> values, int rows, int columns, int tileRows, Span<byte> codes, Span<float> scales,
        bool powerOfTwo, float smallestMax)
    {
        int tiles = TileCount(columns);
        Require(values.Length, codes.Length, scales.Length, rows, columns, TileCount(rows, tileRows) * tiles);
        for (int top = 0; top < rows; top += tileRows)
        {
            int height = Math.Min(tileRows, rows - top);
            for (int tile = 0; tile < tiles; tile++)
            {
                int start = (top * columns) + (tile * TileSize);
                int width = Math.Min(TileSize, columns - (tile * TileSize));
                float max = smallestMax;
                for (int row = 0; row < height; row++)
                {
                    max = Math.Max(max, MaxMagnitude(values.Slice(start + (row * columns), width)));
                }

                float scale = ScaleOf(max, powerOfTwo);
                scales[(top / tileRows * tiles) + tile] = scale;
                for (int row = 0; row < height; row++)
                {
                    int offset = start + (row * columns);
                    Float8Format.EncodeE4M3(values.Slice(offset, width), codes[offset..], scale);
                }
            }
        }
    }

    private static float ScaleOf(float max, bool powerOfTwo)
    {
        float scale = max / Float8Format.E4M3Max;

        // A subnormal quotient would turn every element into infinity or noise: such a tile is zero for all purposes.
        scale = float.IsNormal(scale) ? scale : 1;
        return powerOfTwo ? CeilingPowerOfTwo(scale) : scale;
    }

    private static float MaxMagnitude(ReadOnlySpan<float> values)
    {
        int width = Vector<float>.Count;
        Vector<float> best = Vector<float>.Zero;
        int i = 0;
        for (; i <= values.Length - width; i += width)
        {
            best = Vector.Max(best, Vector.Abs(new Vector<float>(values[i..])));
        }

        float max = 0;
        for (int lane = 0; lane < width; lane++)
        {
            max = Math.Max(max, best[lane]);
        }

        for (; i < values.Length; i++)
        {
            max = Math.Max(max, Math.Abs(values[i]));
        }

        return max;
    }

    private static void Require(int source, int destination, int scales, int rows, int columns, int tiles)
    {
        long count = (long)rows * columns;
        if (source < count || destination < count || scales < tiles)
        {
            throw new ArgumentException(
                $"[{rows}, {columns}] needs {count} values and codes and {tiles} scales; " +
                $"got {source}, {destination} and {scales}");
        }
    }
}
