using System.Diagnostics;
using System.Net.Sockets;
using Krewe.Grains.Devices.Channel;
using Krewe.Grains.Interfaces.Devices;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Microsoft.Extensions.DependencyInjection;
using Orleans.Serialization;
using Xunit;

namespace Krewe.Grains.Tests.Devices.Channel;

/// <summary>Cancellation, bounds, discarding and the end of a channel.</summary>
public sealed class ChannelLifeTests
{
    private static CancellationToken Token => ChannelPair.Token;

    [Fact]
    public async Task A_sending_cancelled_in_the_middle_frees_its_tensor_and_the_next_one_reconnects()
    {
        await using ChannelPair pair = await ChannelPair.StartAsync(unix: false);
        using var raw = new RawPeer();
        Tensor tensor = ChannelPair.Numbers(pair.Source, 2000, 16_000, 1);
        using var cancel = new CancellationTokenSource();
        Task sending = pair.Sender.SendAsync(raw.Address, pair.Sender.Announce(tensor, 1, 1), tensor, cancel.Token);
        await raw.AcceptAsync(window: 1 << 20);

        // The header has come and nobody reads the values: the sending is stuck in them.
        Assert.Equal(MessageKind.Tensor, (await raw.Wire.ReadMessageAsync(Token)).Kind);
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => sending);
        Tensor small = ChannelPair.Numbers(pair.Source, 2, 2, 2);
        TensorTicket ticket = pair.Sender.Announce(small, 1, 2);
        sending = pair.Sender.SendAsync(raw.Address, ticket, small, Token);
        await raw.AcceptAsync(window: 1 << 20);
        Assert.Equal(ticket.Id, (await raw.Wire.ReadMessageAsync(Token)).Id);
        Assert.False(sending.IsCompleted);
        await Handshake.SendAsync(raw.Wire, new(MessageKind.Arrived, ticket.Id, ticket.Bytes), Token);
        await sending;
    }

    [Fact]
    public async Task A_sending_cancelled_before_its_turn_leaves_the_connection_alone()
    {
        await using ChannelPair pair = await ChannelPair.StartAsync(options: new() { InFlightBytes = 1000 });
        Tensor tensor = ChannelPair.Numbers(pair.Source, 10, 20, 1);
        TensorTicket first = pair.Sender.Announce(tensor, 1, 1);
        TensorTicket second = pair.Sender.Announce(tensor, 1, 1);
        await pair.Sender.SendAsync(pair.Receiver.Address, first, tensor, Token);
        using var cancel = new CancellationTokenSource();
        Task sending = pair.Sender.SendAsync(pair.Receiver.Address, second, tensor, cancel.Token);
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => sending);
        TensorAssert.Same(tensor, await pair.Receiver.ReceiveAsync(first, pair.Target, Token), "the first");
        TensorAssert.Same(tensor, await pair.PassAsync(tensor), "a third");
    }

    [Fact]
    public async Task A_receiver_cancelled_in_the_middle_is_not_written_to_afterwards()
    {
        await using ChannelPair pair = await ChannelPair.StartAsync(unix: false);
        using var raw = new RawPeer();
        await raw.ConnectAsync(pair.Receiver.Address);
        TensorTicket ticket = new(1, raw.Incarnation, [2, 3000], DType.Float32, 1, 1);
        using var cancel = new CancellationTokenSource();
        Task<Tensor> receiving = pair.Receiver.ReceiveAsync(ticket, pair.Target, cancel.Token).AsTask();
        await Handshake.SendAsync(raw.Wire, Header(ticket), Token);
        await raw.Wire.SendAsync(new byte[12_000], Token);
        await Task.Delay(50, Token);
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => receiving.WaitAsync(TimeSpan.FromSeconds(5), Token));
        pair.Target.Reset();
        Tensor reused = ChannelPair.Numbers(pair.Target, 2, 3000, 7);
        await raw.Wire.SendAsync(new byte[12_000], Token);

        // The connection lives on: the next tensor of the same sender arrives.
        TensorTicket next = ticket with { Id = 2, Shape = [3] };
        await Handshake.SendAsync(raw.Wire, Header(next), Token);
        await raw.Wire.SendAsync(new byte[12], Token);
        await pair.Receiver.ReceiveAsync(next, pair.Target, Token);
        TensorAssert.Same(ChannelPair.Numbers(pair.Source, 2, 3000, 7), reused, "the memory used again");
    }

    [Fact]
    public async Task A_receiver_slower_than_its_senders_stays_bounded()
    {
        const int window = 1 << 20;
        await using ChannelPair pair = await ChannelPair.StartAsync(
            options: new() { InFlightBytes = 64 << 20 }, receiver: new() { InFlightBytes = window });
        Tensor tensor = ChannelPair.Numbers(pair.Source, 100, 1000, 1);
        TensorTicket[] tickets = [.. Enumerable.Range(0, 50).Select(_ => pair.Sender.Announce(tensor, 1, 1))];
        Task[] sent = [.. tickets.Select(ticket => pair.Sender.SendAsync(pair.Receiver.Address, ticket, tensor, Token))];
        await ChannelFaultTests.UntilAsync(() => pair.Receiver.UnclaimedBytes > window / 2);
        foreach (TensorTicket ticket in tickets)
        {
            await Task.Delay(2, Token);
            Assert.InRange(pair.Receiver.UnclaimedBytes, 0, window);
            await pair.Receiver.ReceiveAsync(ticket, pair.Target, Token);
            pair.Target.Reset();
        }

        await Task.WhenAll(sent);
        Assert.Equal(0, pair.Receiver.UnclaimedBytes);
        Assert.InRange(pair.Receiver.PooledBytes, 0, 2 * window);
    }

    [Fact]
    public async Task A_receiver_without_room_still_gets_what_it_asks_for()
    {
        await using ChannelPair pair = await ChannelPair.StartAsync(receiver: new() { UnclaimedBytes = 0 });
        Tensor tensor = ChannelPair.Numbers(pair.Source, 100, 1000, 1);
        TensorTicket[] tickets = [.. Enumerable.Range(0, 20).Select(_ => pair.Sender.Announce(tensor, 1, 1))];
        Task[] sent = [.. tickets.Select(ticket => pair.Sender.SendAsync(pair.Receiver.Address, ticket, tensor, Token))];
        foreach (TensorTicket ticket in Enumerable.Reverse(tickets))
        {
            TensorAssert.Same(tensor, await pair.Receiver.ReceiveAsync(ticket, pair.Target, Token), $"{ticket}");
        }

        await Task.WhenAll(sent);
    }

    [Fact]
    public async Task Abandoned_attempts_are_dropped_now_and_later()
    {
        await using ChannelPair pair = await ChannelPair.StartAsync();
        Tensor tensor = ChannelPair.Numbers(pair.Source, 100, 1000, 1);
        TensorTicket old = pair.Sender.Announce(tensor, 7, 1);
        TensorTicket awaited = pair.Sender.Announce(tensor, 7, 1);
        TensorTicket late = pair.Sender.Announce(tensor, 7, 1);
        TensorTicket current = pair.Sender.Announce(tensor, 7, 2);
        TensorTicket other = pair.Sender.Announce(tensor, 8, 1);
        await pair.Sender.SendAsync(pair.Receiver.Address, old, tensor, Token);
        await pair.Sender.SendAsync(pair.Receiver.Address, other, tensor, Token);
        Task receiving = pair.Receiver.ReceiveAsync(awaited, pair.Target, Token).AsTask();
        pair.Receiver.Discard(7, 2);
        ChannelException given = await Assert.ThrowsAsync<ChannelException>(() => receiving);
        Assert.Contains("discarded", given.Message, StringComparison.Ordinal);
        await Assert.ThrowsAsync<ChannelException>(async () => await pair.Receiver.ReceiveAsync(old, pair.Target, Token));
        await pair.Sender.SendAsync(pair.Receiver.Address, late, tensor, Token);
        await pair.Sender.SendAsync(pair.Receiver.Address, current, tensor, Token);
        TensorAssert.Same(tensor, await pair.Receiver.ReceiveAsync(current, pair.Target, Token), "the current attempt");
        TensorAssert.Same(tensor, await pair.Receiver.ReceiveAsync(other, pair.Target, Token), "another scope");
        Assert.Equal((0, 0), (pair.Receiver.UnclaimedBytes, pair.Receiver.PendingReceives));
    }

    [Fact]
    public async Task What_nobody_claims_goes_and_buffers_follow()
    {
        await using ChannelPair pair = await ChannelPair.StartAsync(options: new()
        {
            UnclaimedLife = TimeSpan.FromMilliseconds(200),
            InFlightBytes = 300_000,
        });
        Tensor tensor = ChannelPair.Numbers(pair.Source, 50, 1000, 1);
        for (int i = 0; i < 4; i++)
        {
            // The third finds no room until the first has expired.
            await pair.Sender.SendAsync(pair.Receiver.Address, pair.Sender.Announce(tensor, 1, 1), tensor, Token);
        }

        await ChannelFaultTests.UntilAsync(() => pair.Receiver.UnclaimedBytes == 0 && pair.Receiver.PooledBytes == 0);
    }

    [Fact]
    public async Task A_closed_channel_lets_go_of_everyone_within_a_second()
    {
        await using ChannelPair pair = await ChannelPair.StartAsync();
        Tensor tensor = ChannelPair.Numbers(pair.Source, 100, 1000, 1);
        await pair.PassAsync(tensor);
        string file = pair.Receiver.Address.UnixSocket!;
        Assert.True(File.Exists(file));
        Task toClosed = pair.Receiver.ReceiveAsync(pair.Sender.Announce(tensor, 1, 1), pair.Target, Token).AsTask();
        Task fromClosed = pair.Sender.ReceiveAsync(pair.Receiver.Announce(tensor, 1, 1), pair.Source, Token).AsTask();
        await pair.Receiver.SendAsync(pair.Sender.Address, pair.Receiver.Announce(tensor, 1, 1), tensor, Token);
        long started = Stopwatch.GetTimestamp();
        await pair.Receiver.DisposeAsync();
        Assert.InRange(Stopwatch.GetElapsedTime(started).TotalMilliseconds, 0, 900);
        Assert.Contains("closed", (await Assert.ThrowsAsync<ChannelException>(() => toClosed)).Message, StringComparison.Ordinal);
        await Assert.ThrowsAsync<ChannelException>(() => fromClosed.WaitAsync(TimeSpan.FromSeconds(5), Token));
        Assert.False(File.Exists(file));
        Assert.Equal((0, 0), (pair.Receiver.UnclaimedBytes, pair.Receiver.PooledBytes));
        await Assert.ThrowsAsync<ObjectDisposedException>(
            () => pair.Receiver.SendAsync(pair.Sender.Address, pair.Receiver.Announce(tensor, 1, 1), tensor, Token));
    }

    [Fact]
    public async Task Socket_files_are_the_owners_and_dead_ones_go()
    {
        using var folder = new TemporaryFolder();
        string dead = folder["dead.sock"];
        using (var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified))
        {
            // Bound, and left behind without an owner, as a killed process does.
            socket.Bind(new UnixDomainSocketEndPoint(folder["bound.sock"]));
            File.Move(folder["bound.sock"], dead);
        }

        File.SetLastWriteTimeUtc(dead, DateTime.UtcNow.AddMinutes(-1));
        await using var first = new TensorChannel("first", new() { UnixSocketFolder = folder.Path });
        await first.StartAsync(Token);
        File.SetLastWriteTimeUtc(first.Address.UnixSocket!, DateTime.UtcNow.AddMinutes(-1));
        await using var second = new TensorChannel("second", new() { UnixSocketFolder = folder.Path });
        await second.StartAsync(Token);
        Assert.False(File.Exists(dead));
        Assert.True(File.Exists(first.Address.UnixSocket));
        if (OperatingSystem.IsWindows())
        {
            return;
        }

        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(second.Address.UnixSocket!));
        Assert.Equal(
            UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(folder.Path));
    }

    [Fact]
    public void Address_ticket_and_exception_cross_the_wire()
    {
        using ServiceProvider services = new ServiceCollection().AddSerializer().BuildServiceProvider();
        Serializer serializer = services.GetRequiredService<Serializer>();
        var address = new ChannelAddress("s", "h", null, "t", 5, "secret", Guid.NewGuid());
        Assert.Equal(address, Copy(address));
        Assert.DoesNotContain("secret", $"{address}", StringComparison.Ordinal);
        var ticket = new TensorTicket(3, Guid.NewGuid(), [2, 5], DType.BFloat16, 4, 5);
        TensorTicket copy = Copy(ticket);
        Assert.Equal(ticket with { Shape = copy.Shape }, copy);
        Assert.Equal(ticket.Shape, copy.Shape);
        Assert.Equal(20, ticket.Bytes);
        ChannelException failure = Assert.IsType<ChannelException>(Copy<Exception>(new ChannelException("what", new IOException("why"))));
        Assert.Equal(("what", "why"), (failure.Message, failure.InnerException?.Message));

        T Copy<T>(T value) => serializer.Deserialize<T>(serializer.SerializeToArray(value))!;
    }

    private static ChannelMessage Header(TensorTicket ticket) => new(MessageKind.Tensor, ticket.Id, ticket.Bytes)
    {
        Scope = ticket.Scope,
        Attempt = ticket.Attempt,
        DType = ticket.DType,
        Shape = TensorShape.Of(ticket.Shape),
    };
}
