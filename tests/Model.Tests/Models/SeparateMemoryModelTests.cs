using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Models;

/// <summary>Whole models in memory that the host cannot reach, on a machine without a GPU.</summary>
public sealed class SeparateMemoryModelTests(ITestOutputHelper output) : ModelContract(output)
{
    private readonly ComputePool _own = new(2);

    protected override IDevice Device => field ??= new SeparateMemoryDevice(new CpuDevice(_own, "cpu:1"));

    protected override void DisposeDevice()
    {
        Device.Dispose();
        _own.Dispose();
    }
}
