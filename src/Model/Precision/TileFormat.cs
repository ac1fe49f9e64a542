using Krewe.Model.Tensors;

namespace Krewe.Model.Precision;

/// <summary>How a matrix is quantised: element, tile, and the scale of a tile (report 3.3.2).</summary>
/// <param name="Element">Float8E4M3, Float8E5M2 or Float12E5M6.</param>
/// <param name="Rows">Rows of a tile.</param>
/// <param name="Columns">Columns of a tile; edge tiles are smaller.</param>
/// <param name="PowerOfTwo">Scales are rounded up to powers of two (ue8m0).</param>
/// <param name="SmallestMax">
/// Lower bound of max|x| in a tile. The released activation kernel takes 1e-4; gradients are smaller than that and must
/// have none.
/// </param>
public readonly record struct TileFormat(
    DType Element, int Rows, int Columns, bool PowerOfTwo = false, float SmallestMax = 0)
{
    /// <summary>max|x| of a tile below which it counts as zero: its scale would not be a normal number.</summary>
    private const float SmallestNormal = 1.17549435E-38f;

    /// <summary>Largest finite value of the element.</summary>
    public float ElementMax => QuantizedElements.Max(Element);

    /// <summary>The dequantisation multiplier of a tile: max|x| / largest element, or 1 for a tile of zeros.</summary>
    /// <param name="max">max|x| of the tile.</param>
    public float ScaleOf(float max)
    {
        float scale = Math.Max(max, SmallestMax) / ElementMax;
        scale = scale < SmallestNormal ? 1 : scale;
        return PowerOfTwo ? TileQuantization.CeilingPowerOfTwo(scale) : scale;
    }

    /// <summary>Tiles over <paramref name="rows"/> rows, the last one possibly short.</summary>
    public int TileRows(int rows) => TileQuantization.TileCount(rows, Rows);

    /// <summary>Tiles over <paramref name="columns"/> columns, the last one possibly short.</summary>
    public int TileColumns(int columns) => TileQuantization.TileCount(columns, Columns);
}
