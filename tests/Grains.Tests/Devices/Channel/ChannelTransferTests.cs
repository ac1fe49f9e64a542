using Krewe.Grains.Devices.Channel;
using Krewe.Grains.Interfaces.Devices;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Grains.Tests.Devices.Channel;

public sealed class ChannelTransferTests
{
    public static TheoryData<bool, bool> Kinds => new() { { true, false }, { false, false }, { true, true }, { false, true } };

    [Theory, MemberData(nameof(Kinds))]
    public async Task Values_arrive_bit_for_bit(bool unix, bool checksum)
    {
        await using ChannelPair pair = await ChannelPair.StartAsync(unix, new() { ChecksumValues = checksum });
        foreach ((int rows, int columns) in ((int, int)[])[(1, 1), (3, 7), (1, 1000), (64, 1024), (1024, 1025)])
        {
            Tensor tensor = ChannelPair.Numbers(pair.Source, rows, columns, rows);
            TensorAssert.Same(tensor, await pair.PassAsync(tensor), $"{tensor}");
        }

        Assert.Equal(unix, pair.Receiver.Address.UnixSocket is not null);
        Assert.Equal(0, pair.Receiver.UnclaimedBytes);
    }

    [Theory, InlineData(true), InlineData(false)]
    public async Task Rows_with_gaps_arrive_dense(bool unix)
    {
        await using ChannelPair pair = await ChannelPair.StartAsync(unix);
        foreach ((int rows, int columns, int start, int count) in
            ((int, int, int, int)[])[(5, 9, 2, 4), (300, 1000, 1, 998), (1, 9, 3, 2), (3, 200_000, 5, 150_000)])
        {
            Tensor tensor = ChannelPair.Numbers(pair.Source, rows, columns, 1).SliceColumns(start, count);
            Tensor received = await pair.PassAsync(tensor);
            Assert.True(received.IsDense);
            TensorAssert.Same(tensor, received, $"{tensor}");
        }
    }

    [Theory, InlineData(DType.BFloat16), InlineData(DType.Int32), InlineData(DType.UInt8), InlineData(DType.Int64)]
    public async Task Every_element_type_travels(DType dtype)
    {
        await using ChannelPair pair = await ChannelPair.StartAsync();
        Tensor tensor = pair.Source.Allocate(new TensorShape(2, 3, 70_000), dtype);
        new Random(4).NextBytes(Bytes(tensor));
        Tensor received = await pair.PassAsync(tensor);
        Assert.Equal((tensor.Shape, tensor.DType), (received.Shape, received.DType));
        Assert.True(Bytes(tensor).SequenceEqual(Bytes(received)));
    }

    [Fact]
    public async Task Empty_tensors_cross_without_a_connection()
    {
        await using ChannelPair pair = await ChannelPair.StartAsync();
        Tensor none = await pair.PassAsync(default);
        Assert.True(none.IsEmpty);
        Tensor rowless = await pair.PassAsync(pair.Source.Allocate(0, 16));
        Assert.Equal(new TensorShape(0, 16), rowless.Shape);
        Assert.False(rowless.IsEmpty);
    }

    [Theory, InlineData(true), InlineData(false)]
    public async Task A_tensor_of_64_MB_comes_before_or_after_it_is_awaited(bool early)
    {
        await using ChannelPair pair = await ChannelPair.StartAsync(early);
        Tensor tensor = ChannelPair.Numbers(pair.Source, 1000, 17_000, 2);
        TensorTicket ticket = pair.Sender.Announce(tensor, 1, 1);
        ValueTask<Tensor> receiving = early ? pair.Receiver.ReceiveAsync(ticket, pair.Target, ChannelPair.Token) : default;
        await pair.Sender.SendAsync(pair.Receiver.Address, ticket, tensor, ChannelPair.Token);
        TensorAssert.Same(
            tensor, await (early ? receiving : pair.Receiver.ReceiveAsync(ticket, pair.Target, ChannelPair.Token)), "64 MB");
        Assert.Equal(0, pair.Receiver.UnclaimedBytes);
    }

    [Theory, InlineData(true), InlineData(false)]
    public async Task Many_senders_share_a_connection(bool unix)
    {
        await using ChannelPair pair = await ChannelPair.StartAsync(unix, new() { InFlightBytes = 300_000 });
        Tensor[] tensors = [.. Enumerable.Range(1, 200).Select(i => ChannelPair.Numbers(pair.Source, i, 1 + (i * 7 % 500), i))];
        TensorTicket[] tickets = [.. tensors.Select(tensor => pair.Sender.Announce(tensor, 1, 1))];
        Task[] sent = [.. tensors.Zip(tickets, (tensor, ticket) =>
            Task.Run(() => pair.Sender.SendAsync(pair.Receiver.Address, ticket, tensor, ChannelPair.Token)))];

        // Backwards, one at a time: the worst order for a window of a few tensors.
        for (int i = tickets.Length - 1; i >= 0; i--)
        {
            TensorAssert.Same(
                tensors[i], await pair.Receiver.ReceiveAsync(tickets[i], pair.Target, ChannelPair.Token), $"tensor {i}");
            Assert.InRange(pair.Receiver.UnclaimedBytes, 0, 700_000);
        }

        await Task.WhenAll(sent);
        Assert.Equal((0, 0), (pair.Receiver.UnclaimedBytes, pair.Receiver.PendingReceives));
    }

    [Fact]
    public async Task Delay_adds_latency_and_keeps_the_rate()
    {
        await using ChannelPair pair = await ChannelPair.StartAsync(
            receiver: new() { DeliveryDelay = TimeSpan.FromMilliseconds(100) });
        Tensor[] tensors = [.. Enumerable.Range(0, 20).Select(i => ChannelPair.Numbers(pair.Source, 10, 1000, i))];
        long started = Environment.TickCount64;
        Tensor[] received = await Task.WhenAll(tensors.Select(pair.PassAsync));
        Assert.InRange(Environment.TickCount64 - started, 90, 1500);
        for (int i = 0; i < tensors.Length; i++)
        {
            TensorAssert.Same(tensors[i], received[i], $"tensor {i}");
        }
    }

    private static unsafe Span<byte> Bytes(Tensor tensor) =>
        new((void*)tensor.Address, checked((int)tensor.Count * tensor.DType.SizeInBytes()));
}
