using System.Numerics;
using Krewe.Model.Tensors;

namespace Krewe.Model.Precision;

/// <summary>
/// Matrices with one float32 scale per tile (report 3.3.2): 128x128 for weights, 1x128 for activations and output
/// gradients. scale = max|x| / largest element, code = round(x / scale), value = code * scale. Edge tiles are smaller.
/// </summary>
/// <remarks>
/// A tile of zeros has scale 1. Powers of two (ue8m0) round the scale up. NaN stays NaN, and an infinity spoils its
/// tile: it must not pass for a large number.
/// </remarks>
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
        var format = new TileFormat(DType.Float8E4M3, TileSize, TileSize, powerOfTwo);
        Quantize(weight, rows, columns, format, codes, scales);
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
        var format = new TileFormat(DType.Float8E4M3, 1, TileSize, powerOfTwo, smallestMax);
        Quantize(values, rows, columns, format, codes, scales);
    }

    /// <summary>Quantises a dense matrix in tiles of any format.</summary>
    /// <param name="values">[rows, columns].</param>
    /// <param name="rows">Rows.</param>
    /// <param name="columns">Columns.</param>
    /// <param name="format">Element, tile and scale.</param>
    /// <param name="codes">[rows, columns], of one or two bytes each.</param>
    /// <param name="scales">[tiles over rows, tiles over columns], the dequantisation multipliers.</param>
    public static void Quantize(
        ReadOnlySpan<float> values, int rows, int columns, in TileFormat format, Span<byte> codes, Span<float> scales)
    {
        Require(
            values.Length, codes.Length / format.Element.SizeInBytes(), scales.Length, rows, columns,
            format.TileRows(rows) * format.TileColumns(columns));
        Quantize(values, columns, rows, columns, format, codes, scales);
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

    /// <summary>values = codes * scales of a dense matrix in tiles of any format.</summary>
    /// <param name="codes">[rows, columns], of one or two bytes each.</param>
    /// <param name="scales">[tiles over rows, tiles over columns].</param>
    /// <param name="rows">Rows.</param>
    /// <param name="columns">Columns.</param>
    /// <param name="format">Element and tile.</param>
    /// <param name="values">[rows, columns]; overwritten.</param>
    public static void Dequantize(
        ReadOnlySpan<byte> codes, ReadOnlySpan<float> scales, int rows, int columns, in TileFormat format,
        Span<float> values)
    {
        Require(
            codes.Length / format.Element.SizeInBytes(), values.Length, scales.Length, rows, columns,
            format.TileRows(rows) * format.TileColumns(columns));
        for (int row = 0; row < rows; row++)
        {
            DequantizeRow(codes, scales, row, columns, format, values[(row * columns)..]);
        }
    }

    /// <summary>The smallest power of two not below <paramref name="scale"/>, within 2^-126 and 2^127.</summary>
    /// <remarks>
    /// The bit rule of the released kernels: the exponent, one more where a mantissa bit is set, clamped to 1..254. OCP's
    /// MX 1.0 rounds down and lets the largest elements saturate; rounding up, as NVIDIA's recipes do, loses none.
    /// </remarks>
    public static float CeilingPowerOfTwo(float scale)
    {
        uint bits = BitConverter.SingleToUInt32Bits(scale);
        uint exponent = (bits >> 23) + ((bits & 0x7F_FFFF) != 0 ? 1u : 0u);
        return BitConverter.UInt32BitsToSingle(Math.Clamp(exponent, 1, 254) << 23);
    }

    /// <summary>One row of <see cref="Dequantize(ReadOnlySpan{byte}, ReadOnlySpan{float}, int, int, in TileFormat, Span{float})"/>.</summary>
    internal static void DequantizeRow(
        ReadOnlySpan<byte> codes, ReadOnlySpan<float> scales, int row, int columns, in TileFormat format,
        Span<float> values)
    {
        int tiles = format.TileColumns(columns);
        int size = format.Element.SizeInBytes();
        ReadOnlySpan<byte> own = codes.Slice(row * columns * size, columns * size);
        for (int tile = 0; tile < tiles; tile++)
        {
            int start = tile * format.Columns;
            int count = Math.Min(format.Columns, columns - start);
            QuantizedElements.Decode(
                format.Element, own.Slice(start * size, count * size), values[start..],
                scales[(row / format.Rows * tiles) + tile]);
        }
    }

    /// <summary>Quantises a matrix whose rows lie <paramref name="pitch"/> values apart, tile by tile.</summary>
    /// <param name="values">[rows, columns].</param>
    /// <param name="pitch">Values from one row to the next.</param>
    /// <param name="rows">Rows.</param>
    /// <param name="columns">Columns.</param>
    /// <param name="format">Element, tile and scale.</param>
    /// <param name="codes">[rows, columns] of the format's element, dense.</param>
    /// <param name="scales">[tiles over rows, tiles over columns].</param>
    internal static void Quantize(
        ReadOnlySpan<float> values, int pitch, int rows, int columns, in TileFormat format, Span<byte> codes,
        Span<float> scales)
    {
        int tiles = format.TileColumns(columns);
        int size = format.Element.SizeInBytes();
        for (int top = 0; top < rows; top += format.Rows)
        {
            int height = Math.Min(format.Rows, rows - top);
            for (int tile = 0; tile < tiles; tile++)
            {
                int left = tile * format.Columns;
                int width = Math.Min(format.Columns, columns - left);
                float max = 0;
                for (int row = top; row < top + height; row++)
                {
                    max = Math.Max(max, MaxMagnitude(values.Slice((row * pitch) + left, width)));
                }

                float scale = format.ScaleOf(max);
                scales[(top / format.Rows * tiles) + tile] = scale;
                for (int row = top; row < top + height; row++)
                {
                    QuantizedElements.Encode(
                        format.Element, values.Slice((row * pitch) + left, width),
                        codes.Slice(((row * columns) + left) * size, width * size), scale);
                }
            }
        }
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
