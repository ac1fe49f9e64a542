using Krewe.Gpu.Driver;
using Xunit;

namespace Krewe.Gpu.Tests.Driver;

/// <summary>The probe answers on every machine, with a GPU and without.</summary>
public sealed class CudaProbeTests
{
    [Fact]
    public void It_says_what_there_is()
    {
        CudaFindings found = CudaProbe.Run();
        Assert.Equal(found, CudaProbe.Run() with { Devices = found.Devices });
        if (found.Driver is null)
        {
            Assert.Empty(found.Devices);
            Assert.Null(found.DriverVersion);
        }

        Assert.All(found.Devices, device =>
        {
            Assert.NotEmpty(device.Name);
            Assert.True(device.MemoryBytes > 0 && device.Multiprocessors > 0);
        });
    }
}
