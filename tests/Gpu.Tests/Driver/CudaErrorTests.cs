using Krewe.Gpu.Devices;
using Krewe.Gpu.Driver;
using Krewe.Model.Tensors;
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

    [Theory]
    [InlineData(46), InlineData(214), InlineData(220), InlineData(226), InlineData(700), InlineData(702)]
    [InlineData(709), InlineData(710), InlineData(714), InlineData(715), InlineData(716), InlineData(717)]
    [InlineData(718), InlineData(719), InlineData(721), InlineData(810), InlineData(911), InlineData(999)]
    public void A_code_that_stays_loses_the_device(int code)
    {
        CudaException exception = Assert.Throws<CudaException>(() => CudaResult.Check(code, "cuEventSynchronize"));
        Assert.True(exception.LosesDevice);
        var loss = new DeviceLoss("cuda:0");
        DeviceLostException lost = Assert.IsType<DeviceLostException>(LostDevice.Judge(loss, exception));
        Assert.True(loss.IsLost);
        Assert.Equal(("cuda:0", "cuEventSynchronize"), (lost.Device, lost.Call));
        Assert.StartsWith("device cuda:0 is lost: cuEventSynchronize gave ", lost.Message, StringComparison.Ordinal);
        Assert.Contains($"({code}); ", lost.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(1), InlineData(2), InlineData(3), InlineData(100), InlineData(101), InlineData(209), InlineData(218)]
    [InlineData(400), InlineData(500), InlineData(600), InlineData(701), InlineData(704), InlineData(720)]
    [InlineData(801), InlineData(901), InlineData(912)]
    public void A_code_that_passes_leaves_the_device(int code)
    {
        CudaException exception = Assert.Throws<CudaException>(() => CudaResult.Check(code, "cuLaunchKernelEx"));
        var loss = new DeviceLoss("cuda:0");
        Assert.Same(exception, LostDevice.Judge(loss, exception));
        Assert.False(loss.IsLost);
    }

    [Fact]
    public void A_kernel_that_does_not_end_loses_the_device()
    {
        int looks = 0;
        CudaException exception = Assert.Throws<CudaException>(
            () => DeviceWait.Until(this, _ => ++looks < 0, "cuEventQuery", TimeSpan.FromMilliseconds(20)));
        Assert.True(looks > 10);
        var loss = new DeviceLoss("cuda:0");
        Exception judged = LostDevice.Judge(loss, exception);
        Assert.True(loss.IsLost);
        Assert.Contains("cuEventQuery gave", judged.Message, StringComparison.Ordinal);
        Assert.EndsWith("(702); a kernel before this call does not end", judged.Message, StringComparison.Ordinal);
        DeviceWait.Until(this, _ => ++looks > 0, "cuEventQuery", TimeSpan.Zero);
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
