using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>Cross-entropy and the most likely token; <c>Loss.cu</c>.</content>
internal sealed partial class CudaKernels
{
    /// <summary>Most logits of a token that a block of the narrow kernel takes.</summary>
    private const int NarrowLogits = 8192;
    private const int WideThreads = 1024;
    private const int ArgMaxThreads = 1024;

    private CudaKernel CrossEntropyKernel => field ??= _library.Kernel("Layers/Loss.cu", "cross_entropy");

    private CudaKernel CrossEntropyWideKernel => field ??= _library.Kernel("Layers/Loss.cu", "cross_entropy_wide");

    private CudaKernel ArgMaxKernel => field ??= _library.Kernel("Layers/Loss.cu", "arg_max");

    /// <inheritdoc/>
    public void ArgMax(Tensor values, Tensor indices)
    {
        KernelChecks.ArgMax(values, indices);
        KernelArguments arguments = new();
        arguments.Add(Device(values));
        arguments.Add(indices.Address);
        Launch(ArgMaxKernel, Rows(values.Rows, ArgMaxThreads), ref arguments);
    }

    /// <inheritdoc/>
    public void CrossEntropy(Tensor logits, Tensor targets, Tensor losses, float gradScale)
    {
        KernelChecks.CrossEntropy(logits, targets, losses, this);
        LaunchCrossEntropy(logits, targets, losses, gradScale, default);
    }

    /// <inheritdoc/>
    public void CrossEntropyRounded(Tensor logits, Tensor targets, Tensor losses, float gradScale, Tensor gradients)
    {
        KernelChecks.CrossEntropy(logits, targets, losses, this);
        KernelChecks.RoundToBFloat16(logits, gradients);
        if (gradients.DType == DType.BFloat16)
        {
            LaunchCrossEntropy(logits, targets, losses, gradScale, gradients);
            return;
        }

        LaunchCrossEntropy(logits, targets, losses, gradScale, default);
        RoundToBFloat16(logits, gradients);
    }

    private void LaunchCrossEntropy(Tensor logits, Tensor targets, Tensor losses, float gradScale, Tensor rounded)
    {
        KernelArguments arguments = new();
        arguments.Add(Device(logits));
        arguments.Add(targets.Address);
        arguments.Add(losses.Address);
        arguments.Add(gradScale);
        arguments.Add(rounded.Address);
        arguments.Add(rounded.RowStride);
        arguments.Add(Submission.Fault);
        bool wide = logits.Columns > NarrowLogits;
        Launch(
            wide ? CrossEntropyWideKernel : CrossEntropyKernel, Rows(logits.Rows, wide ? WideThreads : BlockThreads),
            ref arguments);
    }
}
