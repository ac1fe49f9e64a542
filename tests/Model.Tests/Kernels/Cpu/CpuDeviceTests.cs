using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Tensors;
using Xunit;

namespace Krewe.Model.Tests.Kernels.Cpu;

public sealed class CpuDeviceTests
{
    [Fact]
    public async Task Work_of_one_device_runs_one_after_the_other_in_order()
    {
        using ComputePool pool = new(3);
        using CpuDevice device = new(pool, "cpu:0");
        List<int> order = [];
        int inside = 0;
        Task[] work =
        [
            .. Enumerable.Range(0, 2000).Select(i => device.SubmitAsync(
                (_, number) =>
                {
                    Assert.Equal(1, Interlocked.Increment(ref inside));
                    order.Add(number);
                    Interlocked.Decrement(ref inside);
                },
                i)),
        ];
        await Task.WhenAll(work);
        Assert.Equal(Enumerable.Range(0, 2000), order);
    }

    [Fact]
    public async Task Two_devices_of_a_pool_run_at_the_same_time()
    {
        using ComputePool pool = new(2);
        using CpuDevice first = new(pool, "cpu:0");
        using CpuDevice second = new(pool, "cpu:1");
        using Barrier barrier = new(2);
        void Meet() => Assert.True(barrier.SignalAndWait(TimeSpan.FromSeconds(30)));
        await Task.WhenAll(first.SubmitAsync(_ => Meet()), second.SubmitAsync(_ => Meet()));
    }

    [Fact]
    public async Task More_devices_than_threads_share_them()
    {
        using ComputePool pool = new(2);
        CpuDevice[] devices = [.. Enumerable.Range(0, 5).Select(i => new CpuDevice(pool, $"cpu:{i}"))];
        int done = 0;
        List<Task> work = [];
        for (int i = 0; i < 500; i++)
        {
            work.Add(devices[i % 5].SubmitAsync(_ => Interlocked.Increment(ref done)));
        }

        await Task.WhenAll(work);
        Assert.Equal(500, done);
        Assert.All(devices, device => device.Dispose());
    }

    [Fact]
    public async Task A_fault_becomes_the_task_s_and_the_device_goes_on()
    {
        using ComputePool pool = new(1);
        using CpuDevice device = new(pool, "cpu:0");
        await Assert.ThrowsAsync<KreweException>(() => device.SubmitAsync(_ => throw new KreweException("no")));
        await device.SubmitAsync(_ => { });
    }

    [Fact]
    public async Task Dispose_waits_for_the_work_and_rejects_more()
    {
        using ComputePool pool = new(2);
        CpuDevice device = new(pool, "cpu:0");
        using ManualResetEventSlim started = new();
        using ManualResetEventSlim release = new();
        bool ended = false;
        Task first = device.SubmitAsync(_ =>
        {
            started.Set();
            Assert.True(release.Wait(TimeSpan.FromSeconds(30)));
        });
        Task second = device.SubmitAsync(_ => ended = true);
        Assert.True(started.Wait(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken));
        Task disposal = Task.Run(device.Dispose, TestContext.Current.CancellationToken);
        release.Set();
        await disposal;
        Assert.True(ended);
        await Task.WhenAll(first, second);
        Assert.Throws<ObjectDisposedException>(() => { _ = device.SubmitAsync(_ => { }); });
    }

    [Fact]
    public void Arenas_are_counted()
    {
        using ComputePool pool = new(1);
        using CpuDevice device = new(pool, "cpu:0");
        Arena arena = device.CreateArena("test");
        Assert.Equal(0, device.ReservedBytes);
        arena.Allocate(10, 10);
        Assert.InRange(device.ReservedBytes, 10 * 10 * sizeof(float), HostArena.DefaultBlockBytes);
        arena.Dispose();
        Assert.Equal(0, device.ReservedBytes);
    }
}
