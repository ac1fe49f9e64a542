using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Cpu;

/// <content>Quantised matrices and their products.</content>
public sealed unsafe partial class CpuKernels
{
    /// <summary>Least rows of a band that one task quantises: a vector of a transpose.</summary>
    private const int QuantizedBand = 16;

    /// <inheritdoc/>
    public void Quantize(Tensor source, Tensor rows, QuantizedTensor straight, QuantizedTensor transposed)
    {
        KernelChecks.Quantize(source, rows, straight, transposed);
        if (!straight.IsEmpty)
        {
            int band = BandOf(straight.Format);
            For(Divide(straight.Rows, band), straight.Codes.Count, new QuantizeLoop(source, rows, straight, band));
        }

        if (!transposed.IsEmpty)
        {
            int band = BandOf(transposed.Format);
            For(
                Divide(transposed.Rows, band), transposed.Codes.Count,
                new QuantizeTransposedLoop(source, rows, transposed, band));
        }
    }

    /// <inheritdoc/>
    public void Dequantize(QuantizedTensor source, Tensor destination)
    {
        KernelChecks.Dequantize(source, destination);
        int part = RowsOfPart(destination.Columns);
        For(Divide(source.Rows, part), destination.Count, new DequantizeLoop(source, destination, part));
    }

    /// <inheritdoc/>
    public void RoundToBFloat16(Tensor source, Tensor destination)
    {
        KernelChecks.RoundToBFloat16(source, destination);
        Parts parts = new(source, source.IsDense && destination.IsDense);
        For(parts.Number, source.Count, new RoundLoop(parts, source, destination));
    }

    /// <inheritdoc/>
    public void ScaledLinear(QuantizedTensor input, QuantizedTensor weight, Tensor output, bool accumulate = false)
        => GroupedScaledLinear([new(input, weight, output, default, accumulate)]);

    /// <inheritdoc/>
    public void GroupedScaledLinear(ReadOnlySpan<ScaledProduct> products)
    {
        KernelChecks.GroupedScaledLinear(products);
        var list = (ScaledOperands*)Scratch.Current.Bytes(
            ScratchUse.Products, Math.Max(1, products.Length) * sizeof(ScaledOperands));
        for (int i = 0; i < products.Length; i++)
        {
            list[i] = Describe(products[i].Resolved());
        }

        switch (_isa)
        {
            case Isa.Avx512:
                ScaledMatrixProduct<MicroKernel512>.Launch(_pool, list, products.Length);
                break;
            case Isa.Avx2:
                ScaledMatrixProduct<MicroKernel256>.Launch(_pool, list, products.Length);
                break;
            default:
                ScaledMatrixProduct<MicroKernel128>.Launch(_pool, list, products.Length);
                break;
        }
    }

    private static ScaledOperands Describe(in ScaledProduct product)
    {
        int first = product.Depth.IsEmpty ? 0 : product.Depth.Ints[0];
        int end = product.Depth.IsEmpty ? product.Weight.Columns : product.Depth.Ints[1];
        return new()
        {
            A = Describe(product.Input, product.InputRows, first),
            B = Describe(product.Weight, default, first),
            C = product.Output.Floats,
            CStride = product.Output.RowStride,
            M = product.Output.Rows,
            N = product.Output.Columns,
            K = end - first,
            SliceDepth = product.Weight.Format.Columns,
            Accumulate = product.Accumulate,
        };
    }

    private static ScaledOperands.Side Describe(in QuantizedTensor operand, Tensor rows, int firstColumn) => new()
    {
        Codes = (byte*)operand.Codes.Address + firstColumn,
        Scales = operand.Scales.Floats + (firstColumn / operand.Format.Columns),
        Pitch = operand.Columns,
        Slices = operand.Scales.Columns,
        Rows = rows.Ints,
        TileRows = operand.Format.Rows,
        IsE5M2 = operand.Format.Element == DType.Float8E5M2,
    };

    private static int BandOf(TileFormat format) => Divide(QuantizedBand, format.Rows) * format.Rows;

    /// <summary>Quantises a dense band of rows, in host memory, into its place.</summary>
    private static void QuantizeBand(float* values, int pitch, QuantizedTensor destination, int first, int count)
    {
        QuantizedTensor part = destination.SliceRows(first, count);
        int columns = part.Columns;
        TileQuantization.Quantize(
            new ReadOnlySpan<float>(values, count == 0 ? 0 : ((count - 1) * pitch) + columns), pitch, count, columns,
            part.Format, CodesOf(part), Floats(part.Scales));
    }

    private static Span<float> Floats(Tensor tensor) => new(tensor.Floats, checked((int)tensor.Count));

    private static Span<byte> CodesOf(QuantizedTensor tensor) => new(
        (void*)tensor.Codes.Address, checked((int)tensor.Codes.Count * tensor.Format.Element.SizeInBytes()));

    private readonly struct QuantizeLoop(Tensor source, Tensor rows, QuantizedTensor destination, int band) : ILoop
    {
        public void Run(int index)
        {
            int first = index * band;
            int count = Math.Min(band, destination.Rows - first);
            if (rows.IsEmpty)
            {
                QuantizeBand(RowAddress(source, first), source.RowStride, destination, first, count);
                return;
            }

            int columns = source.Columns;
            float* gathered = Scratch.Current.Floats(ScratchUse.Decoded, (long)count * columns);
            Packing.CopyRows(source.Floats, source.RowStride, rows.Ints + first, columns, count, gathered, columns);
            QuantizeBand(gathered, columns, destination, first, count);
        }
    }

    private readonly struct QuantizeTransposedLoop(
        Tensor source, Tensor rows, QuantizedTensor destination, int band) : ILoop
    {
        public void Run(int index)
        {
            int first = index * band;
            int count = Math.Min(band, destination.Rows - first);
            int length = destination.Columns;
            float* turned = Scratch.Current.Floats(ScratchUse.Decoded, (long)count * length);
            Packing.Transpose(
                source.Floats + first, source.RowStride, rows.IsEmpty ? null : rows.Ints, length, count, turned, length);
            QuantizeBand(turned, length, destination, first, count);
        }
    }

    private readonly struct DequantizeLoop(QuantizedTensor source, Tensor destination, int part) : ILoop
    {
        public void Run(int index)
        {
            int end = Math.Min(source.Rows, (index + 1) * part);
            for (int row = index * part; row < end; row++)
            {
                Tensor codes = source.Codes.SliceRows(row, 1);
                int tile = row / source.Format.Rows;
                TileQuantization.DequantizeRow(
                    new((void*)codes.Address, codes.Columns * source.Format.Element.SizeInBytes()),
                    Floats(source.Scales.SliceRows(tile, 1)), 0, codes.Columns, source.Format,
                    new(RowAddress(destination, row), destination.Columns));
            }
        }
    }

    private readonly struct RoundLoop(Parts parts, Tensor source, Tensor destination) : ILoop
    {
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public void Run(int index)
        {
            float* from = source.Floats + parts.Start(index, source.RowStride);
            nint start = parts.Start(index, destination.RowStride);
            int count = parts.Length(index);
            if (destination.DType == DType.BFloat16)
            {
                ushort* stored = (ushort*)destination.Address + start;
                for (int i = 0; i < count; i += VectorMath.Width)
                {
                    BFloat16.Store(VectorMath.Load(from + i, count - i), stored + i, count - i);
                }

                return;
            }

            float* to = destination.Floats + start;
            for (int i = 0; i < count; i += VectorMath.Width)
            {
                Vector512<float> value = VectorMath.Load(from + i, count - i);
                VectorMath.Store(BFloat16.Round(value), to + i, count - i);
            }
        }
    }
}
