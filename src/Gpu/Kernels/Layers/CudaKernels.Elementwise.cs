using System.Runtime.InteropServices;
using Krewe.Gpu.Devices;
using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>Add, copy, fill and the norm; <c>Elementwise.cu</c>.</content>
internal sealed unsafe partial class CudaKernels
{
    /// <summary>Most blocks of a sum of squares; their number depends on the size alone, so that the order does.</summary>
    private const int PartialSums = 1024;
    private const int ElementsOfPartialSum = 4096;
    private readonly List<DeviceSquares> _squares = [];

    private CudaKernel AddKernel => field ??= _library.Kernel("Layers/Elementwise.cu", "add");

    private CudaKernel FillKernel => field ??= _library.Kernel("Layers/Elementwise.cu", "fill");

    private CudaKernel FillBFloat16Kernel => field ??= _library.Kernel("Layers/Elementwise.cu", "fill_bfloat16");

    private CudaKernel Copy1 => field ??= _library.Kernel("Layers/Elementwise.cu", "copy_1");

    private CudaKernel Copy2 => field ??= _library.Kernel("Layers/Elementwise.cu", "copy_2");

    private CudaKernel Copy4 => field ??= _library.Kernel("Layers/Elementwise.cu", "copy_4");

    private CudaKernel Copy8 => field ??= _library.Kernel("Layers/Elementwise.cu", "copy_8");

    private CudaKernel Squares => field ??= _library.Kernel("Layers/Elementwise.cu", "squares");

    /// <inheritdoc/>
    public void Add(Tensor source, Tensor destination)
    {
        KernelChecks.Add(source, destination);
        KernelArguments arguments = new();
        arguments.Add(Device(source));
        arguments.Add(Device(destination));
        Launch(AddKernel, Elements(source), ref arguments);
    }

    /// <inheritdoc/>
    public void Copy(Tensor source, Tensor destination)
    {
        KernelChecks.Copy(source, destination);
        KernelArguments arguments = new();
        arguments.Add(source.Address);
        arguments.Add(destination.Address);
        arguments.Add(source.Rows);
        arguments.Add(source.Columns);
        arguments.Add(source.RowStride);
        arguments.Add(destination.RowStride);
        CudaKernel kernel = source.DType.SizeInBytes() switch { 1 => Copy1, 2 => Copy2, 4 => Copy4, _ => Copy8 };
        Launch(kernel, Elements(source), ref arguments);
    }

    /// <inheritdoc/>
    public void Fill(Tensor destination, float value)
    {
        KernelChecks.Fill(destination);
        KernelArguments arguments = new();
        if (destination.DType == DType.BFloat16)
        {
            arguments.Add(destination.Address);
            arguments.Add(destination.Rows);
            arguments.Add(destination.Columns);
            arguments.Add(destination.RowStride);
            arguments.Add((int)BFloat16Format.Encode(value));
            Launch(FillBFloat16Kernel, Elements(destination), ref arguments);
            return;
        }

        arguments.Add(Device(destination));
        arguments.Add(value);
        Launch(FillKernel, Elements(destination), ref arguments);
    }

    /// <inheritdoc/>
    /// <remarks>Waits for everything submitted so far, once: the host wants the numbers.</remarks>
    public void SumsOfSquares(ReadOnlySpan<Tensor> values, Span<double> sums)
    {
        KernelChecks.SumsOfSquares(values, sums);
        if (values.IsEmpty)
        {
            return;
        }

        _squares.Clear();
        int blocks = 0;
        foreach (ref readonly Tensor tensor in values)
        {
            DeviceSquares squares = new(
                new(tensor), blocks, (int)Math.Clamp(tensor.Count / ElementsOfPartialSum, 1, PartialSums));
            _squares.Add(squares);
            blocks = checked(blocks + squares.Blocks);
        }

        using Scratch partial = Take(blocks * (long)sizeof(double), nameof(SumsOfSquares));
        StagingPiece results = Submission.Take(values.Length * sizeof(double));
        KernelArguments arguments = new();
        arguments.Add(Submission.Upload<DeviceSquares>(CollectionsMarshal.AsSpan(_squares)));
        arguments.Add(values.Length);
        arguments.Add(partial.Address);
        arguments.Add(results.Device);
        arguments.Add(Counters(values.Length));
        Launch(Squares, Rows(blocks), ref arguments);
        results.ToHost(_stream);
        Submission.Synchronize();
        new ReadOnlySpan<double>((void*)results.Host, values.Length).CopyTo(sums);
    }
}
