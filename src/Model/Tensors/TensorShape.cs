namespace Krewe.Model.Tensors;

/// <summary>Extent of a tensor, up to three dimensions, the last one contiguous. A vector is [n].</summary>
/// <param name="Rank">Number of dimensions, 1 to 3.</param>
/// <param name="D0">First extent.</param>
/// <param name="D1">Second extent, 1 where absent.</param>
/// <param name="D2">Third extent, 1 where absent.</param>
public readonly record struct TensorShape(int Rank, int D0, int D1, int D2)
{
    /// <summary>Shape [d0].</summary>
    public TensorShape(int d0) : this(1, d0, 1, 1) { }

    /// <summary>Shape [d0, d1].</summary>
    public TensorShape(int d0, int d1) : this(2, d0, d1, 1) { }

    /// <summary>Shape [d0, d1, d2].</summary>
    public TensorShape(int d0, int d1, int d2) : this(3, d0, d1, d2) { }

    /// <summary>Number of elements.</summary>
    public long Count => (long)D0 * D1 * D2;

    /// <summary>Product of all extents but the last; 1 for a vector.</summary>
    public int Rows => Rank switch { 1 => 1, 2 => D0, _ => D0 * D1 };

    /// <summary>The last extent.</summary>
    public int Columns => Rank switch { 1 => D0, 2 => D1, _ => D2 };

    /// <summary>The shape of <paramref name="dimensions"/>.</summary>
    /// <exception cref="ArgumentException">More than three dimensions, or none.</exception>
    public static TensorShape Of(ReadOnlySpan<long> dimensions) => dimensions switch
    {
        [var a] => new(checked((int)a)),
        [var a, var b] => new(checked((int)a), checked((int)b)),
        [var a, var b, var c] => new(checked((int)a), checked((int)b), checked((int)c)),
        _ => throw new ArgumentException($"a tensor has 1 to 3 dimensions, not {dimensions.Length}"),
    };

    /// <summary>The extents as an array.</summary>
    public long[] ToArray() => Rank switch { 1 => [D0], 2 => [D0, D1], _ => [D0, D1, D2] };

    /// <inheritdoc/>
    public override string ToString() => $"[{string.Join(", ", ToArray())}]";
}
