using Krewe.Gpu.Devices;
using Krewe.Gpu.Driver;
using Xunit;

namespace Krewe.Gpu.Tests.Driver;

/// <summary>Errors name the call, the code, and what was asked for. No card needed.</summary>
public sealed class CudaErrorTests
{
    [Fact]
    public void A_failed_call_is_named_with_its_code_and_bytes()
    {
        CudaException exception = Assert.Throws<CudaException>(
            () => CudaResult.Check(2, 1_000_000, "DriverApi.cuMemAlloc_v2(out nint address, (nuint)bytes)"));
        Assert.StartsWith("cuMemAlloc_v2 failed: ", exception.Message, StringComparison.Ordinal);
        Assert.Contains("(2); 1,000,000 bytes", exception.Message, StringComparison.Ordinal);
        Assert.Equal(("cuMemAlloc_v2", 2, 1_000_000L), (exception.Call, exception.Code, exception.Bytes));
    }

    [Fact]
    public void Success_passes() => CudaResult.Check(0, "cuInit");

    [Fact]
    public void A_lost_context_says_what_to_do()
    {
        CudaException exception = Assert.Throws<CudaException>(() => CudaResult.Check(700, "cuStreamSynchronize"));
        Assert.Contains("a kernel went wrong", exception.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', exception.Message);
    }

    [Fact]
    public void A_launch_shows_grid_block_memory_and_cluster()
    {
        var shape = new LaunchShape(new(3, 4), new(256), 49_152, new(2));
        Assert.Equal("grid 3x4, block 256, 49,152 bytes of shared memory, cluster 2", shape.ToString());
        Assert.Equal("grid 1x2x3, block 32", new LaunchShape(new(1, 2, 3), new(32)).ToString());
        Assert.True(new LaunchShape(new(0), new(32)).IsEmpty);
        Assert.Equal(3u, Dim3.Cover(513, 256));
        Assert.Equal(0u, Dim3.Cover(0, 256));
    }

    [Fact]
    public void Asking_for_a_device_that_is_not_there_gives_one_line()
    {
        CudaFindings found = CudaProbe.Run();
        CudaException exception = Assert.Throws<CudaException>(() => new CudaDevice(found.Devices.Count));
        Assert.DoesNotContain('\n', exception.Message);
        string expected = found.Driver is null ? "no CUDA on this machine: " : $"cuda:{found.Devices.Count}: ";
        Assert.StartsWith(expected, exception.Message, StringComparison.Ordinal);
    }
}
