using Krewe.Model.Kernels.Reference;
using Krewe.Model.Tensors;
using Xunit;

namespace Krewe.Model.Tests.Kernels;

public sealed class ReferenceDeviceTests
{
    [Fact]
    public async Task Work_runs_in_order_and_before_submit_returns()
    {
        using var device = new ReferenceDevice();
        var order = new List<int>();
        Task first = device.SubmitAsync(_ => order.Add(1));
        Task second = device.SubmitAsync((_, list) => list.Add(2), order);
        Assert.Equal([1, 2], order);
        await first;
        await second;
    }

    [Fact]
    public async Task A_fault_of_the_work_becomes_the_task_s()
    {
        using var device = new ReferenceDevice();
        Task faulted = device.SubmitAsync(_ => throw new KreweException("no"));
        await Assert.ThrowsAsync<KreweException>(() => faulted);
        await device.SubmitAsync(_ => { });
    }

    [Fact]
    public void Arenas_are_counted_and_freed()
    {
        using var device = new ReferenceDevice();
        Arena arena = device.CreateArena("test");
        Assert.Equal(0, device.ReservedBytes);
        arena.Allocate(10, 10);
        Assert.InRange(device.ReservedBytes, 10 * 10 * sizeof(float), HostArena.DefaultBlockBytes);
        arena.Dispose();
        Assert.Equal(0, device.ReservedBytes);
    }
}
