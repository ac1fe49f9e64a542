using System.IO.Hashing;
using System.Net.Sockets;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Devices.Channel;

/// <summary>
/// A sender that proved the token: reads its tensors as fast as they come, into the tensors of receivers or into
/// buffers, and never waits for either. The inbox's lock guards what the inbox uses.
/// </summary>
internal sealed class IncomingConnection(
    ChannelSocket socket, Guid sender, string peer, TensorChannelOptions options, Inbox inbox, NativeBufferPool pool)
    : IDisposable
{
    private const int ScrapBytes = 64 << 10;

    private readonly ControlWriter _control = new(socket);
    private readonly XxHash3 _hash = new();
    private readonly Lock _fillLock = new();
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private CancellationTokenSource _fill = new();
    private bool _disposed;

    /// <summary>Incarnation of the sender.</summary>
    public Guid Sender { get; } = sender;

    /// <summary>Name and address of the sender, for messages.</summary>
    public string Peer { get; } = peer;

    /// <summary>Bytes that the sender may have under way or unclaimed.</summary>
    public long Window { get; set; }

    /// <summary>Bytes of this sender in buffers.</summary>
    public long UnclaimedBytes { get; set; }

    /// <summary>True once the inbox has forgotten the connection.</summary>
    public bool IsLost { get; set; }

    /// <summary>Tickets that wait at the sender for room.</summary>
    public HashSet<long> Offers { get; } = [];

    /// <summary>Completes when the reader has ended and its receivers know.</summary>
    public Task Ended => _ended.Task;

    /// <summary>Sends a small message to the sender soon.</summary>
    public void Post(in ChannelMessage message) => _control.Post(message);

    /// <summary>Makes the reader look whether its receiver still wants the tensor.</summary>
    public void InterruptFill()
    {
        lock (_fillLock)
        {
            if (!_disposed)
            {
                _fill.Cancel();
            }
        }
    }

    /// <summary>Reads until the connection ends; returns why.</summary>
    public async Task<string> RunAsync()
    {
        string reason;
        try
        {
            while (true)
            {
                await ReadAsync().ConfigureAwait(false);
            }
        }
        catch (Exception exception)
        {
            // Whatever ended the reader belongs to the receivers that wait for this sender.
            reason = ChannelSocket.ReasonOf(exception);
            if (exception is ChannelException)
            {
                await Handshake.TellFaultAsync(socket, reason).ConfigureAwait(false);
            }
        }

        socket.Dispose();
        if (options.DeliveryDelay > TimeSpan.Zero)
        {
            // What came before the loss is still on its way.
            await Task.Delay(options.DeliveryDelay).ConfigureAwait(false);
        }

        inbox.Lost(this, reason);
        _ended.SetResult();
        return reason;
    }

    /// <summary>Ends the reader.</summary>
    public void Dispose()
    {
        socket.Dispose();
        lock (_fillLock)
        {
            _disposed = true;
            _fill.Dispose();
        }
    }

    private async ValueTask ReadAsync()
    {
        ChannelMessage message = await socket.ReadMessageAsync(CancellationToken.None).ConfigureAwait(false);
        switch (message.Kind)
        {
            case MessageKind.Tensor:
                await ReadTensorAsync(message).ConfigureAwait(false);
                break;
            case MessageKind.Offer:
                inbox.Offer(this, message.Id);
                break;
            case MessageKind.Withdraw:
                inbox.Withdraw(this, message.Id);
                break;
            default:
                throw new ChannelException($"a message of kind {message.Kind} is none that a sender sends");
        }
    }

    private async ValueTask ReadTensorAsync(ChannelMessage header)
    {
        Check(header);
        PendingReceive? pending = inbox.Begin(this, header, out bool keep);
        nint buffer = keep ? pool.Rent(header.Bytes) : 0;
        try
        {
            nint target = pending?.Target.Address ?? buffer;
            pending = await FillAsync(header, target, pending).ConfigureAwait(false);
            await CheckValuesAsync(header).ConfigureAwait(false);
        }
        catch (Exception exception)
        {
            if (keep)
            {
                inbox.Release(this, buffer, header.Bytes);
            }
            else if (pending is not null)
            {
                inbox.Finish(pending, new ChannelException(
                    $"receiving {pending.Ticket} failed: {Peer} was lost in the middle of it: {exception.Message}", exception));
            }

            throw;
        }

        Post(new(MessageKind.Arrived, header.Id, keep ? 0 : header.Bytes));
        if (options.DeliveryDelay > TimeSpan.Zero)
        {
            _ = DeliverLaterAsync(header, pending, keep, buffer);
        }
        else
        {
            Deliver(header, pending, keep, buffer);
        }
    }

    /// <summary>
    /// Reads all values to <paramref name="target"/>, or nowhere where it is 0 or the receiver leaves; the receiver who
    /// is still there is returned.
    /// </summary>
    private async ValueTask<PendingReceive?> FillAsync(ChannelMessage header, nint target, PendingReceive? pending)
    {
        nint scrap = 0;
        _hash.Reset();
        try
        {
            for (long read = 0; read < header.Bytes;)
            {
                if (pending?.Abandoned is { } reason)
                {
                    inbox.Finish(pending, reason);
                    (pending, target) = (null, 0);
                }

                scrap = target == 0 && scrap == 0 ? pool.Rent(ScrapBytes) : scrap;
                nint address = target == 0 ? scrap : target + (nint)read;
                long most = target == 0 ? Math.Min(ScrapBytes, header.Bytes - read) : header.Bytes - read;
                try
                {
                    int count = await socket.ReadSomeAsync(address, most, _fill.Token).ConfigureAwait(false);
                    Hash(header, address, count);
                    read += count;
                }
                catch (OperationCanceledException)
                {
                    lock (_fillLock)
                    {
                        _fill.Dispose();
                        _fill = new();
                    }
                }
            }
        }
        finally
        {
            if (scrap != 0)
            {
                pool.Return(scrap, ScrapBytes);
            }
        }

        return pending;
    }

    private unsafe void Hash(in ChannelMessage header, nint address, int count)
    {
        if (header.HasChecksum)
        {
            _hash.Append(new ReadOnlySpan<byte>((void*)address, count));
        }
    }

    private async ValueTask CheckValuesAsync(ChannelMessage header)
    {
        if (!header.HasChecksum)
        {
            return;
        }

        ulong expected = await socket.ReadChecksumAsync(CancellationToken.None).ConfigureAwait(false);
        ulong actual = _hash.GetCurrentHashAsUInt64();
        if (expected != actual)
        {
            throw new ChannelException(
                $"values of ticket {header.Id} have checksum 0x{actual:x16}, sent as 0x{expected:x16}");
        }
    }

    private async Task DeliverLaterAsync(ChannelMessage header, PendingReceive? pending, bool keep, nint buffer)
    {
        await Task.Delay(options.DeliveryDelay).ConfigureAwait(false);
        Deliver(header, pending, keep, buffer);
    }

    private void Deliver(in ChannelMessage header, PendingReceive? pending, bool keep, nint buffer)
    {
        if (keep)
        {
            inbox.Keep(this, header, buffer);
        }
        else if (pending is not null)
        {
            inbox.Finish(pending, null);
        }
    }

    private void Check(in ChannelMessage header)
    {
        (_, int d0, int d1, int d2) = header.Shape;
        if (!Enum.IsDefined(header.DType) || d0 <= 0 || d1 <= 0 || d2 <= 0 || header.Bytes > options.MaxTensorBytes
            || header.Bytes != (Int128)d0 * d1 * d2 * header.DType.SizeInBytes())
        {
            throw new ChannelException(
                $"ticket {header.Id} claims {header.DType}{header.Shape} in {header.Bytes:N0} bytes, " +
                $"at most {options.MaxTensorBytes:N0} are allowed");
        }
    }
}
