using System.Runtime.InteropServices;
using Krewe.Gpu.Driver;

namespace Krewe.Gpu.Kernels.MatrixProduct;

/// <summary>The matrices of one product on the tensor cores; mirrors <c>Matrices</c> in <c>BuildTensorMaps.cu</c>.
/// </summary>
/// <param name="A">Left operand.</param>
/// <param name="B">Right operand.</param>
/// <param name="C">Result.</param>
/// <param name="Range">Begin and end of the product's own rows, or part of the inner dimension, on the device; or 0.</param>
/// <param name="M">Rows of the result; with a range about as many as it has.</param>
/// <param name="N">Columns of the result.</param>
/// <param name="K">Inner dimension.</param>
/// <param name="StrideA">Elements from row to row.</param>
/// <param name="StrideB">Elements from row to row.</param>
/// <param name="StrideC">Elements from row to row.</param>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct DeviceTensorProduct(
    nint A, nint B, nint C, nint Range, int M, int N, int K, int StrideA, int StrideB, int StrideC)
{
    /// <summary>Size of <c>Product</c> in <c>ProductList.cuh</c>: three tensor maps, and the sizes.</summary>
    public const int MapBytes = 512;

    /// <summary>The matrices of a product whose rows lie together.</summary>
    /// <param name="product">The product.</param>
    /// <param name="sharers">Products with ranges that share a result.</param>
    public DeviceTensorProduct(in ProductOperands product, int sharers)
        : this(
            product.Left.Address, product.Right.Address, product.Result.Address, product.Range.Address,
            product.LikelyRows(sharers), product.Result.Columns, product.K, product.Left.RowStride, product.Right.RowStride,
            product.Result.RowStride)
    {
    }
}

/// <summary>Maps that those of a variant's products are made from; mirrors <c>Templates</c>.</summary>
/// <param name="A">Of the left operand.</param>
/// <param name="B">Of the right operand.</param>
/// <param name="C">Of the result.</param>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct DeviceMapTemplates(CudaTensorMap A, CudaTensorMap B, CudaTensorMap C);

/// <summary>The products of a launch; mirrors <c>ProductList</c>.</summary>
/// <param name="Products">Address of them.</param>
/// <param name="FirstTiles">Int32 [Count + 1]: tiles ahead of each, and of all.</param>
/// <param name="Count">Products.</param>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct DeviceProductList(nint Products, nint FirstTiles, int Count);

/// <summary>Rows to be brought together; mirrors <c>Gather</c> in <c>GatherRows.cu</c>.</summary>
/// <param name="Source">Matrix.</param>
/// <param name="Rows">Int32: which rows.</param>
/// <param name="Destination">Where they go.</param>
/// <param name="Count">How many.</param>
/// <param name="Pieces">Pieces of 16 bytes in a row.</param>
/// <param name="SourcePitch">Pieces from row to row.</param>
/// <param name="DestinationPitch">Pieces from row to row.</param>
/// <param name="FirstRow">Rows of the gathers ahead of this one.</param>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct DeviceGather(
    nint Source, nint Rows, nint Destination, int Count, int Pieces, int SourcePitch, int DestinationPitch,
    int FirstRow);
