using System.Diagnostics;
using System.Net.Sockets;
using Krewe.Grains.Devices.Channel;
using Krewe.Grains.Interfaces.Devices;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Grains.Tests.Devices.Channel;

public sealed class ChannelFaultTests
{
    private static readonly TimeSpan AtOnce = TimeSpan.FromSeconds(5);

    private static CancellationToken Token => ChannelPair.Token;

    [Fact]
    public async Task A_stranger_without_the_token_gets_and_gives_nothing()
    {
        await using ChannelPair pair = await ChannelPair.StartAsync();
        Tensor tensor = ChannelPair.Numbers(pair.Source, 4, 4, 1);
        TensorTicket ticket = pair.Sender.Announce(tensor, 1, 1);
        ChannelAddress guessed = pair.Receiver.Address with { Token = "guess" };
        ChannelException refused = await Assert.ThrowsAsync<ChannelException>(
            () => pair.Sender.SendAsync(guessed, ticket, tensor, Token));
        Assert.Contains("refused: wrong token", refused.Message, StringComparison.Ordinal);
        Assert.Contains("receiver", refused.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("guess", refused.Message, StringComparison.Ordinal);
        Assert.Equal(0, pair.Receiver.UnclaimedBytes);
        TensorAssert.Same(tensor, await pair.PassAsync(tensor), "with the token");
    }

    [Fact]
    public async Task Another_process_on_the_port_gets_nothing()
    {
        await using ChannelPair pair = await ChannelPair.StartAsync(unix: false);
        Tensor tensor = ChannelPair.Numbers(pair.Source, 4, 4, 1);
        ChannelAddress former = pair.Receiver.Address with { Incarnation = Guid.NewGuid() };
        ChannelException refused = await Assert.ThrowsAsync<ChannelException>(
            () => pair.Sender.SendAsync(former, pair.Sender.Announce(tensor, 1, 1), tensor, Token));
        Assert.Contains("another incarnation", refused.Message, StringComparison.Ordinal);
    }

    [Theory, InlineData("GET / HTTP/1.1\r\n\r\n"), InlineData("")]
    public async Task Noise_on_the_port_is_cut_off(string noise)
    {
        await using ChannelPair pair = await ChannelPair.StartAsync(
            unix: false, new() { ConnectDeadline = TimeSpan.FromMilliseconds(300) });
        using var client = new TcpClient();
        await client.ConnectAsync("127.0.0.1", pair.Receiver.Address.TcpPort, Token);
        await client.GetStream().WriteAsync(System.Text.Encoding.ASCII.GetBytes(noise), Token);
        var answer = new MemoryStream();
        try
        {
            await client.GetStream().CopyToAsync(answer, Token).WaitAsync(AtOnce, Token);
        }
        catch (IOException)
        {
            // Reset, since the receiver left the rest of the noise unread.
        }

        Tensor tensor = ChannelPair.Numbers(pair.Source, 4, 4, 1);
        TensorAssert.Same(tensor, await pair.PassAsync(tensor), "after the noise");
    }

    [Fact]
    public async Task A_refused_connection_is_tried_again_by_the_next_sending()
    {
        var faults = new ChannelFaults();
        await using ChannelPair pair = await ChannelPair.StartAsync(options: new() { Faults = faults });
        Tensor tensor = ChannelPair.Numbers(pair.Source, 4, 4, 1);
        faults.RefuseConnections(1);
        await Assert.ThrowsAsync<ChannelException>(
            () => pair.Sender.SendAsync(pair.Receiver.Address, pair.Sender.Announce(tensor, 1, 1), tensor, Token));
        TensorAssert.Same(tensor, await pair.PassAsync(tensor), "after the refusal");
    }

    [Theory, InlineData(true), InlineData(false)]
    public async Task Broken_bits_fail_the_waiting_receiver_at_once(bool header)
    {
        var faults = new ChannelFaults();
        await using ChannelPair pair = await ChannelPair.StartAsync(options: new() { Faults = faults, ChecksumValues = true });
        Tensor tensor = ChannelPair.Numbers(pair.Source, 40, 4000, 1);
        await pair.PassAsync(tensor);
        TensorTicket ticket = pair.Sender.Announce(tensor, 1, 1);
        TensorTicket other = pair.Sender.Announce(tensor, 1, 1);
        Task receiving = pair.Receiver.ReceiveAsync(ticket, pair.Target, Token).AsTask();
        Task waiting = pair.Receiver.ReceiveAsync(other, pair.Target, Token).AsTask();
        (header ? (Action)faults.CorruptHeader : faults.CorruptValues)();
        Task sending = pair.Sender.SendAsync(pair.Receiver.Address, ticket, tensor, Token);
        foreach (Task one in (Task[])[receiving, waiting])
        {
            ChannelException broken = await Assert.ThrowsAsync<ChannelException>(() => one.WaitAsync(AtOnce, Token));
            Assert.Contains("checksum", broken.Message, StringComparison.Ordinal);
            Assert.Contains("sender", broken.Message, StringComparison.Ordinal);
        }

        await Assert.ThrowsAsync<ChannelException>(() => sending.WaitAsync(AtOnce, Token));
        await UntilAsync(() => pair.Receiver.UnclaimedBytes == 0);
        await RetriedAsync(pair, tensor);
    }

    [Theory, InlineData(true), InlineData(false)]
    public async Task A_connection_cut_in_the_middle_fails_both_ends_and_is_opened_again(bool awaited)
    {
        var faults = new ChannelFaults();
        await using ChannelPair pair = await ChannelPair.StartAsync(options: new() { Faults = faults });
        Tensor tensor = ChannelPair.Numbers(pair.Source, 100, 10_000, 1);
        await pair.PassAsync(tensor);
        TensorTicket ticket = pair.Sender.Announce(tensor, 1, 1);
        Task receiving = awaited ? pair.Receiver.ReceiveAsync(ticket, pair.Target, Token).AsTask() : Task.CompletedTask;
        faults.CutAfterFrames(1);
        await Assert.ThrowsAsync<ChannelException>(
            () => pair.Sender.SendAsync(pair.Receiver.Address, ticket, tensor, Token));
        if (awaited)
        {
            ChannelException lost = await Assert.ThrowsAsync<ChannelException>(() => receiving.WaitAsync(AtOnce, Token));
            Assert.Contains($"ticket {ticket.Id} ", lost.Message, StringComparison.Ordinal);
        }

        await UntilAsync(() => pair.Receiver.UnclaimedBytes == 0);
        await RetriedAsync(pair, tensor);
    }

    [Fact]
    public async Task A_killed_sender_fails_those_who_wait_for_it_and_no_others()
    {
        await using ChannelPair pair = await ChannelPair.StartAsync(unix: false);
        using var raw = new RawPeer();
        await raw.ConnectAsync(pair.Receiver.Address);
        Task fromRaw = pair.Receiver.ReceiveAsync(
            new(1, raw.Incarnation, [2, 2], DType.Float32, 1, 1), pair.Target, Token).AsTask();
        Tensor tensor = ChannelPair.Numbers(pair.Source, 2, 2, 1);
        TensorTicket ticket = pair.Sender.Announce(tensor, 1, 1);
        ValueTask<Tensor> fromSender = pair.Receiver.ReceiveAsync(ticket, pair.Target, Token);
        raw.Kill();
        ChannelException lost = await Assert.ThrowsAsync<ChannelException>(() => fromRaw.WaitAsync(AtOnce, Token));
        Assert.Contains("raw", lost.Message, StringComparison.Ordinal);
        await pair.Sender.SendAsync(pair.Receiver.Address, ticket, tensor, Token);
        TensorAssert.Same(tensor, await fromSender, "the other sender's");
    }

    [Fact]
    public async Task A_killed_receiver_fails_the_sending_at_once()
    {
        await using ChannelPair pair = await ChannelPair.StartAsync(unix: false);
        using var raw = new RawPeer();
        Tensor tensor = ChannelPair.Numbers(pair.Source, 1000, 16_000, 1);
        Task sending = pair.Sender.SendAsync(raw.Address, pair.Sender.Announce(tensor, 1, 1), tensor, Token);
        await raw.AcceptAsync(window: 1 << 20);
        raw.Kill();
        ChannelException lost = await Assert.ThrowsAsync<ChannelException>(() => sending.WaitAsync(AtOnce, Token));
        Assert.Contains("raw", lost.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Deadlines_name_the_ticket_and_the_peer()
    {
        await using ChannelPair pair = await ChannelPair.StartAsync(options: new()
        {
            ReceiveDeadline = TimeSpan.FromMilliseconds(200),
            SendDeadline = TimeSpan.FromMilliseconds(300),
            InFlightBytes = 100,
        });
        Tensor tensor = ChannelPair.Numbers(pair.Source, 4, 4, 1);
        TensorTicket ticket = pair.Sender.Announce(tensor, 1, 1);
        ChannelException late = await Assert.ThrowsAsync<ChannelException>(
            async () => await pair.Receiver.ReceiveAsync(ticket, pair.Target, Token));
        Assert.Contains($"receiving ticket {ticket.Id} of", late.Message, StringComparison.Ordinal);
        Assert.Contains("within 0.2 s", late.Message, StringComparison.Ordinal);
        await pair.Sender.SendAsync(pair.Receiver.Address, ticket, tensor, Token);
        late = await Assert.ThrowsAsync<ChannelException>(
            () => pair.Sender.SendAsync(pair.Receiver.Address, pair.Sender.Announce(tensor, 1, 1), tensor, Token));
        Assert.Contains("to receiver (", late.Message, StringComparison.Ordinal);
        Assert.Contains("within 0.3 s", late.Message, StringComparison.Ordinal);
    }

    /// <summary>The end of a connection reaches both ends in its own time, and fails who waits just then.</summary>
    private static async Task RetriedAsync(ChannelPair pair, Tensor tensor)
    {
        for (int attempt = 0; ; attempt++)
        {
            try
            {
                TensorAssert.Same(tensor, await pair.PassAsync(tensor), "after the fault");
                return;
            }
            catch (ChannelException) when (attempt < 3)
            {
                // One of the ends had not noticed the end of the former connection.
            }
        }
    }

    internal static async Task UntilAsync(Func<bool> reached)
    {
        long started = Stopwatch.GetTimestamp();
        while (!reached())
        {
            Assert.True(Stopwatch.GetElapsedTime(started) < AtOnce, "not reached in time");
            await Task.Delay(5, Token);
        }
    }
}
