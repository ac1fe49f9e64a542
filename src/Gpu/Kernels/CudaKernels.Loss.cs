using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>Cross-entropy; <c>Loss.cu</c>.</content>
internal sealed partial class CudaKernels
{
    private CudaKernel CrossEntropyKernel => field ??= _library.Kernel("Loss.cu", "cross_entropy");

    /// <inheritdoc/>
    public void CrossEntropy(Tensor logits, Tensor targets, Tensor losses, float gradScale)
    {
        KernelChecks.CrossEntropy(logits, targets, losses, this);
        KernelArguments arguments = new();
        arguments.Add(Device(logits));
        arguments.Add(targets.Address);
        arguments.Add(losses.Address);
        arguments.Add(gradScale);
        arguments.Add(Submission.Fault);
        Launch(CrossEntropyKernel, Rows(logits.Rows), ref arguments);
    }
}
