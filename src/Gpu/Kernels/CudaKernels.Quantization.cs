using System.Runtime.CompilerServices;
using Krewe.Model;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>Low precision: not written for CUDA yet. Every call is refused before anything is written.</content>
internal sealed partial class CudaKernels
{
    /// <inheritdoc/>
    public void Quantize(Tensor source, Tensor rows, QuantizedTensor straight, QuantizedTensor transposed) =>
        throw Missing();

    /// <inheritdoc/>
    public void Dequantize(QuantizedTensor source, Tensor destination) => throw Missing();

    /// <inheritdoc/>
    public void ScaledLinear(QuantizedTensor input, QuantizedTensor weight, Tensor output, bool accumulate = false) =>
        throw Missing();

    /// <inheritdoc/>
    public void GroupedScaledLinear(ReadOnlySpan<ScaledProduct> products) => throw Missing();

    private KreweException Missing([CallerMemberName] string kernel = "") =>
        new($"{Name} has no {kernel} yet: use precision fp32, or compute on cpu:0");
}
