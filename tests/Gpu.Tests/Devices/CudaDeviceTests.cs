using Krewe.Gpu.Devices;
using Krewe.Gpu.Driver;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Gpu.Tests.Devices;

/// <summary>Submission, faults and memory of a GPU.</summary>
public sealed class CudaDeviceTests
{
    [Fact]
    public async Task Works_run_in_the_order_of_submission()
    {
        CudaDevice device = Card.Device();
        using Arena arena = device.CreateArena("order");
        using var data = new TestTensors(1);
        Tensor x = arena.Allocate(100_000);
        Task[] works = [.. Enumerable.Range(1, 50).Select(i => device.SubmitAsync(
            static (kernels, state) => kernels.Fill(state.X, state.I), (X: x, I: i)))];
        Tensor host = data.GarbageVector(100_000);
        await device.CopyAsync(x, host);
        Assert.All(works, work => Assert.True(work.IsCompletedSuccessfully));
        Assert.All(host.AsSpan<float>().ToArray(), value => Assert.Equal(50, value));
    }

    [Fact]
    public async Task A_bad_index_fails_its_own_work_and_writes_nothing()
    {
        CudaDevice device = Card.Device();
        using Arena arena = device.CreateArena("fault");
        using var data = new TestTensors(2);
        Tensor source = await OnDevice(device, arena, data.Normal(4, 300));
        Tensor rows = await OnDevice(device, arena, data.Ints(0, 3, 4));
        Tensor output = await OnDevice(device, arena, data.Filled(3, 300, 7));
        Task bad = device.SubmitAsync(kernels => kernels.GatherRows(source, rows, default, output));
        Task good = device.SubmitAsync(kernels => kernels.Fill(source, 1));
        ArgumentException exception = await Assert.ThrowsAsync<ArgumentException>(() => bad);
        Assert.StartsWith("rows[2]: expected a row below 4, got 4", exception.Message, StringComparison.Ordinal);
        await good;
        Tensor host = data.Garbage(3, 300);
        await device.CopyAsync(output, host);
        Assert.All(host.AsSpan<float>().ToArray(), value => Assert.Equal(7, value));
    }

    [Fact]
    public async Task Memory_is_counted_and_given_back()
    {
        CudaDevice device = Card.Device();
        long before = device.ReservedBytes;
        Arena arena = device.CreateArena("memory");
        Tensor small = arena.Allocate(10);
        Assert.Equal(0, small.Address % 256);
        Assert.Equal(before + (1 << 20), device.ReservedBytes);
        Tensor large = arena.Allocate(10_000_000);
        await device.SubmitAsync(kernels => kernels.Fill(large, 1));
        Assert.True(device.ReservedBytes >= before + 40_000_000);
        arena.Dispose();
        Assert.Equal(before, device.ReservedBytes);
        using Arena greedy = device.CreateArena("greedy");
        CudaException exception = Assert.Throws<CudaException>(
            () => greedy.Allocate(new TensorShape(1 << 20, 1 << 20)));
        Assert.Contains(
            "'cuda:0/greedy' asked for 4,398,046,511,104 bytes", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_hot_path_allocates_no_more_than_its_task()
    {
        CudaDevice device = Card.Device();
        using Arena arena = device.CreateArena("allocations");
        Tensor x = arena.Allocate(64, 64);
        Tensor y = arena.Allocate(64, 64);
        long perCall = 0;
        for (int round = 0; round < 3; round++)
        {
            await device.SubmitAsync(kernels =>
            {
                kernels.Linear(x, x, y);
                kernels.Add(x, y);
                long before = GC.GetAllocatedBytesForCurrentThread();
                for (int i = 0; i < 100; i++)
                {
                    kernels.Linear(x, x, y);
                    kernels.Add(x, y);
                }

                perCall = GC.GetAllocatedBytesForCurrentThread() - before;
            });
        }

        Assert.Equal(0, perCall);
    }

    [Fact]
    public void A_closed_device_takes_no_work()
    {
        Card.Require();
        var device = new CudaDevice(0);
        Task last = device.SubmitAsync(_ => { });
        device.Dispose();
        Assert.True(last.IsCompletedSuccessfully);
        Assert.Throws<ObjectDisposedException>(() => { _ = device.SubmitAsync(_ => { }); });
        device.Dispose();
    }

    private static async Task<Tensor> OnDevice(CudaDevice device, Arena arena, Tensor host)
    {
        Tensor copy = arena.Allocate(host.Shape, host.DType);
        await device.CopyAsync(host, copy);
        return copy;
    }
}
