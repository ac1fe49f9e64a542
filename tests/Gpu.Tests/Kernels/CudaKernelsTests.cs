using Krewe.Gpu.Devices;
using Krewe.Gpu.Kernels;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;
using Krewe.Model.Tests.Kernels;

namespace Krewe.Gpu.Tests.Kernels;

/// <summary>CUDA under the contract of every backend, called as the system calls it: by submitted work.</summary>
public abstract class CudaKernelsTests(ProductPath products) : KernelContract
{
    private readonly CudaDevice _device = Card.Device(products);

    protected override IKernels Kernels => _device.Kernels;

    protected override double BFloat16ProductTolerance => Tolerance;

    protected override double NormalTolerance => Tolerance;

    protected override Arena CreateArena() => _device.CreateArena("contract");

    protected override void Submit(Action<IKernels> work) => _device.SubmitAsync(work).GetAwaiter().GetResult();

    protected override void Upload(Tensor host, Tensor device) => Copy(host, device);

    protected override void Download(Tensor device, Tensor host) => Copy(device, host);

    private void Copy(Tensor from, Tensor to) => _device.CopyAsync(from, to).GetAwaiter().GetResult();
}
