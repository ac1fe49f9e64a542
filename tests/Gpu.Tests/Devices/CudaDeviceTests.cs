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
    public async Task Repeated_work_sees_the_values_of_each_run()
    {
        CudaDevice device = Card.Device();
        using Arena arena = device.CreateArena("repeated");
        using Arena passing = device.CreateArena("repeated, in passing");
        using var data = new TestTensors(3);
        Tensor source = await OnDevice(device, arena, data.Vector([.. Enumerable.Range(0, 1200)]).Reshape(new(4, 300)));
        Tensor rows = arena.Allocate(2, DType.Int32);
        Tensor total = await OnDevice(device, arena, data.Filled(2, 300, 0));
        using RepeatedWork work = device.Repeat(kernels =>
        {
            passing.Reset();
            Tensor gathered = passing.Allocate(2, 300);
            Tensor twice = passing.Allocate(400_000);
            kernels.Fill(twice, 1);
            kernels.GatherRows(source, rows, default, gathered);
            kernels.Add(gathered, total);
        });
        float expected = 0;
        for (int run = 0; run < 8; run++)
        {
            float seen = -1;
            await work.RunAsync(
                kernels => kernels.Upload<int>([run % 4, 3], rows), kernels => seen = kernels.Read<float>(total)[7]);
            expected += (run % 4 * 300) + 7;
            Assert.Equal(expected, seen);
        }

        ArgumentException bad = await Assert.ThrowsAsync<ArgumentException>(
            () => work.RunAsync(kernels => kernels.Upload<int>([0, 4], rows), _ => { }));
        Assert.StartsWith("rows[1]: expected a row below 4, got 4", bad.Message, StringComparison.Ordinal);

        // Add does not index by data, so it ran behind the gather that did nothing: what it left is nobody's.
        await work.RunAsync(
            kernels =>
            {
                kernels.Fill(total, 0);
                kernels.Upload<int>([0, 0], rows);
            },
            kernels => Assert.Equal(7, kernels.Read<float>(total)[7]));
    }

    [Fact]
    public async Task Work_that_uploads_cannot_be_repeated()
    {
        CudaDevice device = Card.Device();
        using Arena arena = device.CreateArena("uploads");
        Tensor values = arena.Allocate(3);
        using RepeatedWork work = device.Repeat(kernels => kernels.Upload<float>([1, 2, 3], values));
        await work.RunAsync(_ => { }, _ => { });
        await work.RunAsync(_ => { }, _ => { });
        InvalidOperationException refused = await Assert.ThrowsAsync<InvalidOperationException>(
            () => work.RunAsync(_ => { }, _ => { }));
        Assert.Contains("uploads", refused.Message, StringComparison.Ordinal);
        await device.SubmitAsync(kernels => kernels.Fill(values, 5));
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
