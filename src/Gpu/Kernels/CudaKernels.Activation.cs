using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>SwiGLU and the rotary embedding; <c>Activation.cu</c>.</content>
internal sealed partial class CudaKernels
{
    private CudaKernel SwiGluKernel => field ??= _library.Kernel("Activation.cu", "swiglu");

    private CudaKernel SwiGluBackwardKernel => field ??= _library.Kernel("Activation.cu", "swiglu_backward");

    private CudaKernel RotaryEmbeddingKernel => field ??= _library.Kernel("Activation.cu", "rotary_embedding");

    /// <inheritdoc/>
    public void SwiGlu(Tensor gate, Tensor up, Tensor output)
    {
        KernelChecks.SwiGlu(gate, up, output);
        KernelArguments arguments = new();
        arguments.Add(Device(gate));
        arguments.Add(Device(up));
        arguments.Add(Device(output));
        Launch(SwiGluKernel, Elements(gate), ref arguments);
    }

    /// <inheritdoc/>
    public void SwiGluBackward(Tensor gradOutput, Tensor gate, Tensor up, Tensor gradGate, Tensor gradUp)
    {
        KernelChecks.SwiGluBackward(gradOutput, gate, up, gradGate, gradUp);
        KernelArguments arguments = new();
        arguments.Add(Device(gradOutput));
        arguments.Add(Device(gate));
        arguments.Add(Device(up));
        arguments.Add(Device(gradGate));
        arguments.Add(Device(gradUp));
        Launch(SwiGluBackwardKernel, Elements(gate), ref arguments);
    }

    /// <inheritdoc/>
    public void RotaryEmbedding(
        Tensor data, int heads, int offset, Tensor table, Tensor positions, bool inverse = false)
    {
        KernelChecks.RotaryEmbedding(data, heads, offset, table, positions, this);
        KernelArguments arguments = new();
        arguments.Add(Device(data));
        arguments.Add(heads);
        arguments.Add(offset);
        arguments.Add(Device(table));
        arguments.Add(positions.Address);
        arguments.Add(inverse ? 1 : 0);
        arguments.Add(Submission.Fault);
        long pairs = (long)data.Rows * heads * (table.Columns / 2);
        Launch(RotaryEmbeddingKernel, new(new(Dim3.Cover(pairs, BlockThreads)), new(BlockThreads)), ref arguments);
    }
}
