using Krewe.Gpu.Devices;
using Krewe.Gpu.Driver;
using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Gpu.Tests.Devices;

/// <summary>
/// Copies from one device's memory to another's: between two cards, and between two devices of one card.
/// </summary>
public sealed class CudaPeersTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public async Task Values_go_from_device_to_device(int card)
    {
        Card.Require();
        Assert.SkipUnless(card < CudaContext.CountDevices(), $"needs cuda:{card}");
        CudaDevice sender = Card.Device();
        using var receiver = new CudaDevice(card);
        using Arena there = sender.CreateArena("sent");
        using Arena here = receiver.CreateArena("received");
        using var data = new TestTensors(1);
        Tensor values = data.Normal(300, 1000);
        Tensor from = there.Allocate(values.Shape);
        await sender.CopyAsync(values, from);
        // Taken by the receiver's pool before and after the two were opened to each other.
        for (int round = 0; round < 3; round++)
        {
            Tensor to = here.Allocate(values.Shape);
            Task? copy = receiver.TryCopyFrom(sender, from, to);
            Assert.NotNull(copy);
            await copy;
            Tensor seen = await HostOf(receiver, data, to);
            Assert.True(values.AsSpan<float>().SequenceEqual(seen.AsSpan<float>()));
        }
    }

    [Fact]
    public async Task Rows_with_gaps_become_dense_and_come_in_the_order_of_submission()
    {
        CudaDevice sender = Card.Device();
        using var receiver = new CudaDevice(0);
        using Arena there = sender.CreateArena("sent");
        using Arena here = receiver.CreateArena("received");
        using var data = new TestTensors(2);
        Tensor values = data.Normal(7, 100);
        Tensor from = there.Allocate(values.Shape);
        await sender.CopyAsync(values, from);
        Tensor to = here.Allocate(5, 30), sum = here.Allocate(5, 30);

        Task before = receiver.SubmitAsync(kernels =>
        {
            kernels.Fill(to, 7);
            kernels.Fill(sum, 1);
        });
        Task? copy = receiver.TryCopyFrom(sender, from.SliceRows(2, 5).SliceColumns(10, 30), to);
        Task after = receiver.SubmitAsync(kernels => kernels.Add(to, sum));
        await Task.WhenAll(before, copy!, after);

        Tensor seen = await HostOf(receiver, data, sum);
        for (int row = 0; row < 5; row++)
        {
            IEnumerable<float> expected = values.Row(row + 2).Slice(10, 30).ToArray().Select(value => value + 1);
            Assert.Equal(expected, seen.Row(row).ToArray());
        }
    }

    [Fact]
    public async Task Other_devices_go_by_way_of_the_host_and_a_lost_one_gives_nothing()
    {
        CudaDevice receiver = Card.Device();
        using var pool = new ComputePool(1);
        using var cpu = new CpuDevice(pool, "cpu:0");
        using var lost = new CudaDevice(0);
        using Arena arena = receiver.CreateArena("received");
        using Arena there = lost.CreateArena("sent");
        using var data = new TestTensors(3);
        Tensor to = arena.Allocate(4, 8), from = there.Allocate(4, 8);

        Assert.Null(receiver.TryCopyFrom(cpu, data.Normal(4, 8), to));
        await Assert.ThrowsAsync<ArgumentException>(() => receiver.TryCopyFrom(lost, from.SliceRows(0, 3), to)!);
        _ = lost.Loss.Report("test", "the test wanted it");
        await Assert.ThrowsAsync<DeviceLostException>(() => receiver.TryCopyFrom(lost, from, to)!);
        Assert.False(receiver.Loss.IsLost);
        await receiver.SubmitAsync(kernels => kernels.Fill(to, 1));
    }

    private static async Task<Tensor> HostOf(CudaDevice device, TestTensors data, Tensor tensor)
    {
        Tensor host = data.Garbage(tensor.Rows, tensor.Columns);
        await device.CopyAsync(tensor, host);
        return host;
    }
}
