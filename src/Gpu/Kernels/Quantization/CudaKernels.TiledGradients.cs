using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>
/// Quantisation of each expert's rows, and of gradients as they are made; <c>QuantizeExperts.cu</c> and
/// <c>SwiGluBackwardTiles.cu</c>.
/// </content>
internal sealed partial class CudaKernels
{
    private const string SwiGluBackwardFile = "Quantization/SwiGluBackwardTiles.cu";

    private CudaKernel SwiGluBackwardEvenTiles =>
        field ??= _library.Kernel(SwiGluBackwardFile, "swiglu_backward_tiles");

    private CudaKernel SwiGluBackwardAnyTiles =>
        field ??= _library.Kernel(SwiGluBackwardFile, "swiglu_backward_any_tiles");

    /// <inheritdoc/>
    public bool MakesTiledGradients => true;

    /// <inheritdoc/>
    public void QuantizeExperts(
        Tensor source, DispatchTable table, bool gathers, QuantizedTensor straight, QuantizedTensor transposed)
    {
        KernelChecks.QuantizeExperts(source, table, gathers, straight, transposed);
        if (!straight.IsEmpty && !transposed.IsEmpty && straight.Format.Element != transposed.Format.Element)
        {
            QuantizeExperts(source, table, gathers, straight, default);
            QuantizeExperts(source, table, gathers, default, transposed);
            return;
        }

        KernelArguments arguments = new();
        arguments.Add(Device(source));
        arguments.Add(gathers ? table.Rows.Address : 0);
        arguments.Add(table.Offsets.Address);
        arguments.Add(table.Experts);
        arguments.Add(new DeviceQuantized(straight));
        arguments.Add(new DeviceQuantized(transposed));
        Launch(
            KernelsFor(straight, transposed).QuantizeExperts, Pieces(table.TurnedColumns, source.Columns),
            ref arguments);
    }

    /// <inheritdoc/>
    public void RequantizeExperts(QuantizedTensor source, DispatchTable table, bool gathers, QuantizedTensor transposed)
    {
        KernelChecks.RequantizeExperts(source, table, gathers, transposed);
        KernelArguments arguments = new();
        arguments.Add(new DeviceQuantized(source));
        arguments.Add(gathers ? table.Rows.Address : 0);
        arguments.Add(table.Offsets.Address);
        arguments.Add(table.Experts);
        arguments.Add(new DeviceQuantized(transposed));
        Launch(
            KernelsFor(default, transposed).RequantizeExperts, Pieces(table.TurnedColumns, source.Columns),
            ref arguments);
    }

    /// <inheritdoc/>
    public void CombineExpertsBackwardTiles(
        Tensor gradOutput, Tensor source, DispatchTable table, Tensor weights, DType precision,
        QuantizedTensor straight, QuantizedTensor transposed, Tensor gradWeights)
    {
        KernelChecks.CombineExpertsBackwardTiles(
            gradOutput, source, table, weights, precision, straight, transposed, gradWeights);
        LaunchCombineBackward(gradOutput, source, table, weights, precision, default, gradWeights);
        KernelArguments arguments = new();
        arguments.Add(Device(gradOutput));
        arguments.Add(table.Rows.Address);
        arguments.Add(table.Assignments.Address);
        arguments.Add(Device(weights));
        arguments.Add(table.Offsets.Address);
        arguments.Add(table.Experts);
        arguments.Add(new DeviceQuantized(straight));
        arguments.Add(new DeviceQuantized(transposed));
        Launch(
            KernelsFor(straight, transposed).QuantizeWeightedExperts, Pieces(table.TurnedColumns, gradOutput.Columns),
            ref arguments);
    }

    /// <inheritdoc/>
    public void SwiGluBackwardTiles(
        Tensor gradOutput, Tensor gate, Tensor up, TileFormat cache, DispatchTable table, in SwiGluTiles result)
    {
        KernelChecks.SwiGluBackwardTiles(gradOutput, gate, up, cache, table, result);
        KernelArguments arguments = new();
        arguments.Add(Device(gradOutput));
        arguments.Add(Device(gate));
        arguments.Add(Device(up));
        arguments.Add(new DeviceQuantized(new(default, default, cache)));
        arguments.Add(table.Offsets.Address);
        arguments.Add(table.Offsets.IsEmpty ? 0 : table.Experts);
        arguments.Add(new DeviceSwiGluTiles(result));
        int rows = table.Offsets.IsEmpty ? gate.Rows : table.TurnedColumns;
        CudaKernel kernel = DeviceSwiGluTiles.AreEven(result) ? SwiGluBackwardEvenTiles : SwiGluBackwardAnyTiles;
        Launch(
            kernel, Pieces(rows, gate.Columns) with { SharedBytes = DeviceSwiGluTiles.SharedBytes }, ref arguments);
    }
}
