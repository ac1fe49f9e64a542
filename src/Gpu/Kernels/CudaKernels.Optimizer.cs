using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>AdamW; <c>Optimizer.cu</c>.</content>
internal sealed partial class CudaKernels
{
    private CudaKernel AdamWKernel => field ??= _library.Kernel("Optimizer.cu", "adamw");

    /// <inheritdoc/>
    public void AdamW(Tensor weight, Tensor gradient, Tensor firstMoment, Tensor secondMoment, in AdamWStep step)
    {
        KernelChecks.AdamW(weight, gradient, firstMoment, secondMoment, step);
        KernelArguments arguments = new();
        arguments.Add(Device(weight));
        arguments.Add(Device(gradient));
        arguments.Add(new DeviceMoment(firstMoment));
        arguments.Add(new DeviceMoment(secondMoment));
        arguments.Add(new DeviceAdamWStep(step));
        Launch(AdamWKernel, Elements(weight), ref arguments);
    }
}
