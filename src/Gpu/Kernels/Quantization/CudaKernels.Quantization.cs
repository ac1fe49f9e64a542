using System.Runtime.InteropServices;
using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>Quantisation and back; <c>QuantizePieces.cu</c>, <c>QuantizeRows.cu</c> and <c>Quantization.cu</c>.</content>
internal sealed partial class CudaKernels
{
    private const int DequantizedRows = 4;
    private const int ElementsOfThread = 4;

    /// <summary>Rows up to which quantising kernels have a warp for each tile.</summary>
    private const int MostFewRows = 64;

    private readonly PieceKernels?[] _pieceKernels = new PieceKernels?[3];
    private readonly List<DeviceCopies> _copies = [];

    private CudaKernel QuantizeAnyTileKernel => field ??= _library.Kernel("Quantization/Quantization.cu", "quantize_any_tile");

    private CudaKernel DequantizeKernel => field ??= _library.Kernel("Quantization/Quantization.cu", "dequantize");

    /// <inheritdoc/>
    public void Quantize(Tensor source, Tensor rows, QuantizedTensor straight, QuantizedTensor transposed)
    {
        KernelChecks.Quantize(source, rows, straight, transposed, this);
        int count = rows.IsEmpty ? source.Rows : (int)rows.Count;
        if (transposed.IsEmpty && FitsRows(straight, count) && FitFours(source))
        {
            KernelArguments few = new();
            few.Add(Device(source));
            few.Add(rows.Address);
            few.Add(new DeviceQuantized(straight));
            few.Add(Submission.Fault);
            Launch(KernelsFor(straight, default).QuantizeRows, RowTiles(count, straight), ref few);
            return;
        }

        if (InPieces(ref straight, ref transposed, out QuantizedTensor straightLater, out QuantizedTensor turnedLater))
        {
            KernelArguments arguments = new();
            arguments.Add(Device(source));
            arguments.Add(rows.Address);
            arguments.Add(count);
            arguments.Add(new DeviceQuantized(straight));
            arguments.Add(new DeviceQuantized(transposed));
            arguments.Add(Submission.Fault);
            Launch(KernelsFor(straight, transposed).Quantize, Pieces(count, source.Columns), ref arguments);
        }

        QuantizeAnyTile(source, rows, straightLater, transposed: false);
        QuantizeAnyTile(source, rows, turnedLater, transposed: true);
    }

    /// <inheritdoc/>
    public void QuantizeMany(ReadOnlySpan<QuantizedCopies> copies)
    {
        foreach (ref readonly QuantizedCopies copy in copies)
        {
            KernelChecks.Quantize(copy.Source, default, copy.Straight, copy.Transposed);
        }

        foreach (ref readonly QuantizedCopies copy in copies)
        {
            if (!FitOnePass(copy.Straight, copy.Transposed))
            {
                Quantize(copy.Source, default, copy.Straight, copy.Transposed);
            }
        }

        for (int element = 0; element < _pieceKernels.Length; element++)
        {
            LaunchCopies(copies, (DeviceElement)element);
        }
    }

    /// <summary>Those of one element that one pass can write, in one grid.</summary>
    private void LaunchCopies(ReadOnlySpan<QuantizedCopies> copies, DeviceElement element)
    {
        _copies.Clear();
        int pieces = 0;
        QuantizedTensor any = default;
        foreach ((Tensor source, QuantizedTensor straight, QuantizedTensor transposed) in copies)
        {
            QuantizedTensor wanted = straight.IsEmpty ? transposed : straight;
            if (source.Count > 0 && !wanted.IsEmpty && FitOnePass(straight, transposed)
                && DeviceQuantized.ElementOf(wanted.Format.Element) == element)
            {
                any = wanted;
                _copies.Add(new(new(source), new(straight), new(transposed), pieces));
                pieces = checked(pieces + (int)Pieces(source.Rows, source.Columns).Grid.Count);
            }
        }

        if (pieces > 0)
        {
            KernelArguments arguments = new();
            arguments.Add(Submission.Upload<DeviceCopies>(CollectionsMarshal.AsSpan(_copies)));
            arguments.Add(_copies.Count);
            Launch(KernelsFor(any, default).QuantizeMany, Rows(pieces, DeviceQuantized.Threads), ref arguments);
        }
    }

    /// <inheritdoc/>
    public void Dequantize(QuantizedTensor source, Tensor destination)
    {
        KernelChecks.Dequantize(source, destination);
        KernelArguments arguments = new();
        arguments.Add(new DeviceQuantized(source));
        arguments.Add(Device(destination));
        var grid = new Dim3(
            Dim3.Cover(source.Rows, DequantizedRows), Dim3.Cover(source.Columns, BlockThreads * ElementsOfThread));
        Launch(DequantizeKernel, new(grid, new(BlockThreads)), ref arguments);
    }

    /// <inheritdoc/>
    public void Requantize(QuantizedTensor source, Tensor room, QuantizedTensor transposed)
    {
        KernelChecks.Dequantize(source, room);
        KernelChecks.Quantize(room, default, default, transposed);
        if (!FitOnePass(default, transposed) || source.Format.Element != transposed.Format.Element)
        {
            Dequantize(source, room);
            Quantize(room, default, default, transposed);
            return;
        }

        KernelArguments arguments = new();
        arguments.Add(new DeviceQuantized(source));
        arguments.Add(new DeviceQuantized(transposed));
        Launch(KernelsFor(default, transposed).Requantize, Pieces(source.Rows, source.Columns), ref arguments);
    }

    /// <inheritdoc/>
    public void RmsNormQuantize(
        Tensor input, Tensor weight, Tensor output, Tensor inverseRms, float epsilon, QuantizedTensor straight,
        QuantizedTensor transposed, bool keepsOutput = true)
    {
        KernelChecks.RmsNorm(input, weight, output, inverseRms);
        KernelChecks.Quantize(output, default, straight, transposed);
        if (!FitOnePass(straight, transposed))
        {
            RmsNorm(input, weight, output, inverseRms, epsilon);
            Quantize(output, default, straight, transposed);
            return;
        }

        if (transposed.IsEmpty && FitsRows(straight, input.Rows) && FitFours(input) && FitFours(output)
            && weight.Address % 16 == 0)
        {
            KernelArguments few = new();
            few.Add(Device(input));
            few.Add(weight.Address);
            few.Add(inverseRms.Address);
            few.Add(epsilon);
            few.Add(Device(output));
            few.Add(keepsOutput ? 1 : 0);
            few.Add(new DeviceQuantized(straight));
            few.Add(input.Columns <= ColumnsOfWarpRow ? 1 : 0);
            Launch(KernelsFor(straight, default).RmsNormRows, Rows(input.Rows), ref few);
            return;
        }

        KernelArguments scale = new();
        scale.Add(Device(input));
        scale.Add(inverseRms.Address);
        scale.Add(epsilon);
        Launch(RmsNormScaleKernels, input, ref scale);
        KernelArguments arguments = new();
        arguments.Add(Device(input));
        arguments.Add(weight.Address);
        arguments.Add(inverseRms.Address);
        AddQuantized(ref arguments, output, straight, transposed, keepsOutput);
        Launch(KernelsFor(straight, transposed).RmsNorm, Pieces(input.Rows, input.Columns), ref arguments);
    }

    /// <inheritdoc/>
    public void SwiGluQuantize(
        Tensor gate, Tensor up, Tensor output, QuantizedTensor straight, QuantizedTensor transposed,
        bool keepsOutput = true)
    {
        KernelChecks.SwiGlu(gate, up, output);
        KernelChecks.Quantize(output, default, straight, transposed);
        if (!FitOnePass(straight, transposed))
        {
            SwiGlu(gate, up, output);
            Quantize(output, default, straight, transposed);
            return;
        }

        KernelArguments arguments = new();
        arguments.Add(Device(gate));
        arguments.Add(Device(up));
        if (transposed.IsEmpty && FitsRows(straight, gate.Rows) && FitFours(gate) && FitFours(up) && FitFours(output))
        {
            arguments.Add(Device(output));
            arguments.Add(keepsOutput ? 1 : 0);
            arguments.Add(new DeviceQuantized(straight));
            Launch(KernelsFor(straight, default).SwiGluRows, RowTiles(gate.Rows, straight), ref arguments);
            return;
        }

        AddQuantized(ref arguments, output, straight, transposed, keepsOutput);
        Launch(KernelsFor(straight, transposed).SwiGlu, Pieces(gate.Rows, gate.Columns), ref arguments);
    }

    private static void AddQuantized(
        ref KernelArguments arguments, Tensor output, QuantizedTensor straight, QuantizedTensor transposed,
        bool keepsOutput)
    {
        arguments.Add(Device(output));
        arguments.Add(keepsOutput ? 1 : 0);
        arguments.Add(new DeviceQuantized(straight));
        arguments.Add(new DeviceQuantized(transposed));
    }

    /// <summary>Whether <c>QuantizeRows.cu</c> takes the tiles, and rows are as few as steps of decoding have.</summary>
    private static bool FitsRows(QuantizedTensor straight, int rows) =>
        !straight.IsEmpty && straight.Format is { Rows: 1, Columns: DeviceQuantized.Side } && rows is > 0 and <= MostFewRows
        && straight.Columns % ElementsOfThread == 0 && straight.Codes.Address % 8 == 0;

    /// <summary>A warp for each tile.</summary>
    private static LaunchShape RowTiles(int rows, QuantizedTensor straight) => new(
        new((uint)rows, Dim3.Cover(straight.Scales.Columns, BlockThreads / WarpThreads)), new(BlockThreads));

    private static bool FitOnePass(QuantizedTensor straight, QuantizedTensor transposed)
    {
        _ = InPieces(ref straight, ref transposed, out QuantizedTensor straightLeft, out QuantizedTensor left);
        return straightLeft.IsEmpty && left.IsEmpty;
    }

    private PieceKernels KernelsFor(QuantizedTensor straight, QuantizedTensor transposed)
    {
        DeviceElement element =
            DeviceQuantized.ElementOf((straight.IsEmpty ? transposed : straight).Format.Element);
        return _pieceKernels[(int)element] ??= new(_library, element);
    }

    /// <summary>
    /// What one pass over the source in pieces can write; the rest, of other tiles or of a second element, is left.
    /// </summary>
    private static bool InPieces(
        ref QuantizedTensor straight, ref QuantizedTensor transposed, out QuantizedTensor straightLeft,
        out QuantizedTensor transposedLeft)
    {
        straightLeft = Leave(ref straight, DeviceQuantized.FitsPieces(straight.Format));
        transposedLeft = Leave(
            ref transposed,
            DeviceQuantized.FitsPieces(transposed.Format)
            && (straight.IsEmpty || straight.Format.Element == transposed.Format.Element));
        return !straight.IsEmpty || !transposed.IsEmpty;

        static QuantizedTensor Leave(ref QuantizedTensor tensor, bool fits)
        {
            QuantizedTensor left = fits ? default : tensor;
            tensor = fits ? tensor : default;
            return left;
        }
    }

    private static LaunchShape Pieces(int rows, int columns) => new(
        new(Dim3.Cover(rows, DeviceQuantized.Side), Dim3.Cover(columns, DeviceQuantized.Side)),
        new(DeviceQuantized.Threads));

    private void QuantizeAnyTile(Tensor source, Tensor rows, QuantizedTensor destination, bool transposed)
    {
        if (destination.IsEmpty)
        {
            return;
        }

        KernelArguments arguments = new();
        arguments.Add(Device(source));
        arguments.Add(rows.Address);
        arguments.Add(new DeviceQuantized(destination));
        arguments.Add(transposed ? 1 : 0);
        arguments.Add(Submission.Fault);
        LaunchShape shape = Rows(checked((int)destination.Scales.Count), DeviceQuantized.Threads);
        Launch(QuantizeAnyTileKernel, shape, ref arguments);
    }
}
