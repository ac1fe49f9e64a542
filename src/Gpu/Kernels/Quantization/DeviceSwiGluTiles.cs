using System.Runtime.InteropServices;
using Krewe.Model.Kernels;

namespace Krewe.Gpu.Kernels;

/// <summary>Tiles of the gradients of SwiGLU; mirrors <c>Destinations</c> in <c>SwiGluBackwardTiles.cu</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly struct DeviceSwiGluTiles(in SwiGluTiles tiles)
{
    /// <summary>Dynamic shared memory of its blocks: <c>Shared</c> there.</summary>
    public const int SharedBytes = 28_672 + (2 * 8 * DeviceQuantized.Threads * sizeof(int));

    private const int RowAlignment = 16;

    private readonly DeviceQuantized _noStraight = new(default);
    private readonly DeviceQuantized _gate = new(tiles.Gate);
    private readonly DeviceQuantized _up = new(tiles.Up);
    private readonly DeviceQuantized _hidden = new(tiles.Hidden);
    private readonly DeviceQuantized _gateTurned = new(tiles.GateTurned);
    private readonly DeviceQuantized _upTurned = new(tiles.UpTurned);

    /// <summary>Whether <c>is_even</c> in <c>EvenTile.cuh</c> is true of all of them, whose tiles have one
    /// row.</summary>
    public static bool AreEven(in SwiGluTiles tiles) =>
        tiles.Gate.Columns % 4 == 0 && tiles.Hidden.Columns % RowAlignment == 0
        && Begins(tiles.Hidden) && Begins(tiles.Gate) && Begins(tiles.GateTurned) && Begins(tiles.Up)
        && Begins(tiles.UpTurned);

    private static bool Begins(QuantizedTensor tensor) => tensor.Codes.Address % RowAlignment == 0;
}
