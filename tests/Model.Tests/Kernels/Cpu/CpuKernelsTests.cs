using Krewe.Model.Kernels;
using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Tensors;

namespace Krewe.Model.Tests.Kernels.Cpu;

/// <summary>The SIMD backend under the contract, called as the system calls it: by work submitted to a device.</summary>
public abstract class CpuKernelsContract : KernelContract, IDisposable
{
    private readonly ComputePool _pool;
    private readonly CpuDevice _device;

    protected CpuKernelsContract(int threads)
    {
        _pool = new(threads);
        _device = new(_pool, "cpu:test");
    }

    protected override IKernels Kernels => _device.Kernels;

    protected override Arena CreateArena() => _device.CreateArena("contract");

    protected override void Submit(Action<IKernels> work) => _device.SubmitAsync(work).GetAwaiter().GetResult();

    void IDisposable.Dispose()
    {
        Dispose();
        _device.Dispose();
        _pool.Dispose();
        GC.SuppressFinalize(this);
    }
}

public sealed class CpuKernelsTests() : CpuKernelsContract(1);

public sealed class CpuKernelsTwoThreadsTests() : CpuKernelsContract(2);

public sealed class CpuKernelsThreeThreadsTests() : CpuKernelsContract(3);
