using System.Runtime.InteropServices;
using Krewe.Gpu.Devices;
using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;

namespace Krewe.Gpu.Kernels.MatrixProduct;

/// <content>Products of a few rows, as decoding has them: <c>FewRowsProduct.cu</c>, with the same bits.</content>
internal sealed partial class Fp8Products
{
    /// <summary>Rows of the input that a block takes at a time.</summary>
    private const int FewRows = 8;

    /// <summary>Threads of a block, and the most products of a launch.</summary>
    private const int FewRowsThreads = 512;

    private const int FewRowsAlignment = 16;
    private readonly List<DeviceFewRows> _fewRows = [];

    private CudaKernel FewRowsKernel => field ??= library.Kernel("MatrixProduct/FewRowsProduct.cu", "few_rows_product");

    /// <summary>Whether all have so few rows, or likely so few, that their time is that of the weights' way from memory.
    /// </summary>
    private static bool HaveFewRows(ReadOnlySpan<ScaledProduct> products, int sharers)
    {
        if (products.Length > FewRowsThreads)
        {
            return false;
        }

        foreach (ref readonly ScaledProduct product in products)
        {
            if (LikelyRows(product, sharers) > FewRows || !product.Depth.IsEmpty || SlicesOf(product) > 1
                || product.Weight.Columns % FewRowsAlignment != 0
                || product.Input.Codes.Address % FewRowsAlignment != 0
                || product.Weight.Codes.Address % FewRowsAlignment != 0)
            {
                return false;
            }
        }

        return true;
    }

    private void LaunchFewRows(CudaSubmission submission, ReadOnlySpan<ScaledProduct> products)
    {
        _fewRows.Clear();
        bool placed = false;
        long units = 0;
        foreach (ref readonly ScaledProduct product in products)
        {
            _fewRows.Add(new(product));
            placed |= !product.Range.IsEmpty;
            units += (long)Dim3.Cover(product.Output.Columns, DeviceFewRows.TileColumns)
                * Dim3.Cover(product.Output.Rows, FewRows);
        }

        KernelArguments arguments = new();
        arguments.Add(submission.Upload<DeviceFewRows>(CollectionsMarshal.AsSpan(_fewRows), constant: true));
        arguments.Add(_fewRows.Count);
        // Weights of a recording do not change: they may be read while the kernels before still run.
        arguments.Add(placed || !submission.IsRecording ? 1 : 0);
        arguments.Add(submission.Fault);
        uint blocks = (uint)Math.Min(units, multiprocessors);
        FewRowsKernel.Launch(stream, new(new(blocks), new(FewRowsThreads), StartsEarly: true), ref arguments);
    }
}

/// <summary>A product of few rows; mirrors <c>FewRows</c> in <c>FewRowsProduct.cu</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly struct DeviceFewRows(in ScaledProduct product)
{
    /// <summary>Columns of the output that a block takes at a time.</summary>
    public const int TileColumns = 64;

    private readonly nint _input = product.Input.Codes.Address;
    private readonly nint _inputScales = product.Input.Scales.Address;
    private readonly nint _gather = product.InputRows.Address;
    private readonly nint _weight = product.Weight.Codes.Address;
    private readonly nint _weightScales = product.Weight.Scales.Address;
    private readonly nint _output = product.Output.Address;
    private readonly nint _range = product.Range.Address;
    private readonly int _rows = product.Output.Rows;
    private readonly int _columns = product.Output.Columns;
    private readonly int _depth = product.Weight.Columns;
    private readonly int _inputBlocks = product.Input.Scales.Columns;
    private readonly int _weightBlocks = product.Weight.Scales.Columns;
    private readonly int _pitch = product.Output.RowStride;
    private readonly int _accumulate = product.Accumulate ? 1 : 0;
}
