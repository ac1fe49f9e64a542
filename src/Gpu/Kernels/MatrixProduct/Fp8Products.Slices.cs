using System.Runtime.InteropServices;
using Krewe.Gpu.Devices;
using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels.MatrixProduct;

/// <content>
/// Weight gradients of small matrices have few tiles and a depth of all tokens: slices of it are products of their own,
/// the first into the output, the others into scratch memory, and are added up in order behind.
/// </content>
internal sealed partial class Fp8Products
{
    /// <summary>Blocks of the depth that a slice has at least: some 15 us of a multiprocessor.</summary>
    private const int LeastBlocksOfSlice = 24;

    /// <summary>Tiles beyond which slices do not help; no number of the card's, on which no bits may depend.</summary>
    private const int MostTiles = 64;

    private const int TileSide = 256;
    private readonly List<DeviceProduct> _sliced = [];

    private CudaKernel AddSlices => field ??= library.Kernel("MatrixProduct/MatrixProducts.cu", "add_chains");

    /// <summary>Parts that a product's sums are cut into, by its own sizes alone: the same bits in any
    /// company.</summary>
    private static int SlicesOf(in ScaledProduct product)
    {
        if (!product.Splits || !product.Range.IsEmpty || !product.Depth.IsEmpty)
        {
            return 1;
        }

        uint tiles = Dim3.Cover(product.Output.Rows, TileSide) * Dim3.Cover(product.Output.Columns, TileSide);
        return (int)Math.Clamp(MostTiles / tiles, 1, (uint)Math.Max(1, BlocksOf(product) / LeastBlocksOfSlice));
    }

    private static int BlocksOf(in ScaledProduct product) => (product.Weight.Columns + Block - 1) / Block;

    /// <summary>Bytes of all slices' sums but the first ones.</summary>
    private static long BytesOfSlices(ReadOnlySpan<ScaledProduct> products)
    {
        long bytes = 0;
        foreach (ref readonly ScaledProduct product in products)
        {
            bytes += (SlicesOf(product) - 1) * (long)product.Output.Rows * product.Output.Columns * sizeof(float);
        }

        return bytes;
    }

    /// <summary>Adds a product's slices; gives the address behind their sums.</summary>
    private nint DescribeSlices(
        Fp8ProductVariant variant, in ScaledProduct product, in PackedOperand a, in PackedOperand b, int slices,
        nint room)
    {
        Tensor output = product.Output;
        int blocks = BlocksOf(product);
        _sliced.Add(new(
            0, 0, output.Address, 0, 0, room, output.Rows, output.Columns, 0, 0, 0, output.RowStride, 0, 0, slices));
        for (int slice = 0; slice < slices; slice++)
        {
            ScaledProduct own = product;
            if (slice > 0)
            {
                TensorShape shape = new(output.Rows, output.Columns);
                own = product with { Output = new(room, shape), Accumulate = false };
                room += (nint)((long)output.Rows * output.Columns * sizeof(float));
            }

            Fp8Product described = Describe(variant, own, a, b);
            described.Arguments = described.Arguments with
            {
                FirstBlock = (int)((long)blocks * slice / slices),
                LastBlock = (int)((long)blocks * (slice + 1) / slices),
            };
            _products.Add(described);
        }

        return room;
    }

    /// <summary>Adds the slices up.</summary>
    private void AddUp(CudaSubmission submission)
    {
        if (_sliced.Count == 0)
        {
            return;
        }

        int pieces = 0;
        Span<DeviceProduct> sliced = CollectionsMarshal.AsSpan(_sliced);
        foreach (ref DeviceProduct product in sliced)
        {
            product = product with { FirstTile = pieces };
            pieces = checked(pieces + (product.M * (int)Dim3.Cover(product.N, PackThreads)));
        }

        KernelArguments arguments = new();
        arguments.Add(submission.Upload<DeviceProduct>(sliced));
        arguments.Add(sliced.Length);
        arguments.Add(submission.Fault);
        AddSlices.Launch(stream, new(new((uint)pieces), new(PackThreads)), ref arguments);
    }
}
