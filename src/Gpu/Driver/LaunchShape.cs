namespace Krewe.Gpu.Driver;

/// <summary>An extent in up to three dimensions.</summary>
/// <param name="X">First.</param>
/// <param name="Y">Second.</param>
/// <param name="Z">Third.</param>
public readonly record struct Dim3(uint X, uint Y = 1, uint Z = 1)
{
    /// <summary>Blocks needed to cover this many elements.</summary>
    /// <param name="count">Elements; 0 needs none.</param>
    /// <param name="blockSize">Elements of one block.</param>
    public static uint Cover(long count, int blockSize) => checked((uint)((count + blockSize - 1) / blockSize));

    /// <summary>Product of the extents.</summary>
    public ulong Count => (ulong)X * Y * Z;

    /// <inheritdoc/>
    public override string ToString() => Z != 1 ? $"{X}x{Y}x{Z}" : Y != 1 ? $"{X}x{Y}" : $"{X}";
}

/// <summary>How a kernel is launched.</summary>
/// <param name="Grid">Blocks.</param>
/// <param name="Block">Threads of a block.</param>
/// <param name="SharedBytes">Dynamic shared memory of a block.</param>
/// <param name="Cluster">Blocks of a cluster; default for none.</param>
/// <param name="StartsEarly">Lets the kernel start up while the one before it in the stream ends; it must wait for that
/// itself (<c>griddepcontrol.wait</c>, compute capability 9.0).</param>
public readonly record struct LaunchShape(
    Dim3 Grid, Dim3 Block, int SharedBytes = 0, Dim3 Cluster = default, bool StartsEarly = false)
{
    /// <summary>True where the grid has no block: there is nothing to launch.</summary>
    public bool IsEmpty => Grid.Count == 0;

    /// <inheritdoc/>
    public override string ToString() =>
        $"grid {Grid}, block {Block}"
        + (SharedBytes == 0 ? "" : $", {SharedBytes:N0} bytes of shared memory")
        + (Cluster.X == 0 ? "" : $", cluster {Cluster}");
}
