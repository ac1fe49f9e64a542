using System.Runtime.InteropServices;
using Krewe.Gpu.Driver;

namespace Krewe.Gpu.Kernels.MatrixProduct;

/// <summary>A product of <c>Fp8MatrixProduct.cu</c> with its tensor maps; mirrors <c>Fp8Product</c>.</summary>
[StructLayout(LayoutKind.Sequential, Size = Bytes)]
internal struct Fp8Product
{
    /// <summary>Its size: tensor maps that a kernel changes begin at multiples of 128 bytes.</summary>
    public const int Bytes = 512;

    /// <summary>Codes of the first operand.</summary>
    public CudaTensorMap A;

    /// <summary>Codes of the second operand.</summary>
    public CudaTensorMap B;

    /// <summary>The result.</summary>
    public CudaTensorMap Output;

    /// <summary>Everything else.</summary>
    public Fp8ProductArguments Arguments;
}

/// <summary>What a product needs beside tensor maps; mirrors <c>Arguments</c> in <c>Shape.cuh</c>.</summary>
/// <param name="ScalesA">Scales of the first operand's rows.</param>
/// <param name="ScalesB">Scales of the second operand, for 128 x 128 tiles or by row.</param>
/// <param name="Output">The result.</param>
/// <param name="Groups">Bounds or counts of groups; 0 where there are none.</param>
/// <param name="GroupCount">Groups.</param>
/// <param name="Rows">Rows of the result.</param>
/// <param name="Columns">Columns of the result.</param>
/// <param name="Depth">Inner dimension.</param>
/// <param name="Pitch">Elements from one row of the result to the next.</param>
/// <param name="PitchScalesA">The same of the first operand's scales.</param>
/// <param name="PitchScalesB">The same of the second operand's, where it has them by row.</param>
/// <param name="Accumulate">1 to add to the result.</param>
/// <param name="FirstRow">First row of the first operand.</param>
/// <param name="FirstBlock">First block of the depth.</param>
/// <param name="LastBlock">The end of them.</param>
/// <param name="Range">Begin and end of the product's own rows on the device, or 0.</param>
/// <param name="DepthRange">The same of the depth.</param>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct Fp8ProductArguments(
    nint ScalesA, nint ScalesB, nint Output, nint Groups, int GroupCount, int Rows, int Columns, int Depth, int Pitch,
    int PitchScalesA, int PitchScalesB, int Accumulate, int FirstRow, int FirstBlock, int LastBlock, nint Range,
    nint DepthRange)
{
    /// <summary>Whether a kernel must read sizes before the product.</summary>
    public bool IsPlaced => Range != 0 || DepthRange != 0;
}
