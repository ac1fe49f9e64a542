using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>SwiGLU and the rotary embedding; <c>Activation.cu</c>.</content>
internal sealed partial class CudaKernels
{
    private CudaKernel SwiGluKernel => field ??= _library.Kernel("Layers/Activation.cu", "swiglu");

    private CudaKernel SwiGluBackwardKernel => field ??= _library.Kernel("Layers/Activation.cu", "swiglu_backward");

    private CudaKernel RotaryEmbeddingKernel => field ??= _library.Kernel("Layers/Activation.cu", "rotary_embedding");

    /// <inheritdoc/>
    public void SwiGlu(Tensor gate, Tensor up, Tensor output)
    {
        KernelChecks.SwiGlu(gate, up, output);
        if (gate.IsDense && up.IsDense && output.IsDense && gate.Count <= int.MaxValue)
        {
            (gate, up, output) = (OneRow(gate), OneRow(up), OneRow(output));
        }

        KernelArguments arguments = new();
        arguments.Add(Device(gate));
        arguments.Add(Device(up));
        arguments.Add(new DeviceStored(output));
        arguments.Add(InFours(gate) && InFours(up) && InFours(output) ? 1 : 0);
        Launch(SwiGluKernel, Fours(gate), ref arguments);
    }

    /// <inheritdoc/>
    public void SwiGluBackward(Tensor gradOutput, Tensor gate, Tensor up, Tensor gradGate, Tensor gradUp)
    {
        KernelChecks.SwiGluBackward(gradOutput, gate, up, gradGate, gradUp);
        if (gradOutput.IsDense && gate.IsDense && up.IsDense && gradGate.IsDense && gradUp.IsDense
            && gate.Count <= int.MaxValue)
        {
            (gradOutput, gate, up) = (OneRow(gradOutput), OneRow(gate), OneRow(up));
            (gradGate, gradUp) = (OneRow(gradGate), OneRow(gradUp));
        }

        bool inFours = InFours(gradOutput) && InFours(gate) && InFours(up) && InFours(gradGate) && InFours(gradUp);
        KernelArguments arguments = new();
        arguments.Add(Device(gradOutput));
        arguments.Add(Device(gate));
        arguments.Add(Device(up));
        arguments.Add(new DeviceStored(gradGate));
        arguments.Add(new DeviceStored(gradUp));
        arguments.Add(inFours ? 1 : 0);
        Launch(SwiGluBackwardKernel, Fours(gate), ref arguments);
    }

    /// <summary>A dense tensor as one row.</summary>
    private static Tensor OneRow(Tensor tensor) => tensor.Reshape(new TensorShape(1, (int)tensor.Count));

    /// <summary>A thread for each four columns of each row.</summary>
    private static LaunchShape Fours(Tensor tensor) => new(
        new(Dim3.Cover(tensor.Rows * (long)Dim3.Cover(tensor.Columns, 4), BlockThreads)), new(BlockThreads));

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
