using System.Collections.Concurrent;
using System.Net.Sockets;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Devices.Channel;

/// <summary>
/// A connection to one receiver, shared by all senders of this silo: one tensor after another, in the order in which
/// they found room. It breaks once and for all: the next sending opens another.
/// </summary>
internal sealed class OutgoingConnection : IDisposable
{
    private readonly ChannelSocket _socket;
    private readonly string _peer;
    private readonly FrameWriter _frames;
    private readonly SendWindow _window;
    private readonly Action<OutgoingConnection> _broke;
    private readonly SemaphoreSlim _turn = new(1);
    private readonly ConcurrentDictionary<long, TaskCompletionSource> _sent = new();
    private ChannelException? _broken;

    /// <summary>Takes over a connection whose greeting is done.</summary>
    /// <param name="socket">The connection; owned.</param>
    /// <param name="peer">Who receives, for messages.</param>
    /// <param name="window">Room in bytes.</param>
    /// <param name="frames">Writes tensors to <paramref name="socket"/>.</param>
    /// <param name="broke">Called once, when the connection is of no use any more.</param>
    public OutgoingConnection(
        ChannelSocket socket, string peer, long window, FrameWriter frames, Action<OutgoingConnection> broke)
    {
        (_socket, _peer, _frames, _broke) = (socket, peer, frames, broke);
        _window = new(window);
    }

    /// <summary>True where the next sending needs another connection.</summary>
    public bool IsBroken => Volatile.Read(ref _broken) is not null;

    /// <summary>Sends a tensor of at least one byte; it is done when the receiver's channel has all of it.</summary>
    public async Task SendAsync(TensorTicket ticket, Tensor tensor, CancellationToken cancellationToken)
    {
        long bytes = ticket.Bytes;
        if (_window.Enter(ticket.Id, bytes) is { } admitted)
        {
            await WaitForRoomAsync(ticket.Id, bytes, admitted, cancellationToken).ConfigureAwait(false);
        }

        try
        {
            await _turn.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            _window.Credit(bytes);
            throw;
        }

        var arrived = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        try
        {
            _sent[ticket.Id] = arrived;
            await WriteAsync(() => _frames.WriteAsync(ticket, tensor, cancellationToken)).ConfigureAwait(false);
        }
        catch (Exception)
        {
            _sent.TryRemove(ticket.Id, out _);
            throw;
        }
        finally
        {
            _turn.Release();
        }

        if (IsBroken)
        {
            // Broken after the last byte: Break may have looked before the ticket was there.
            FailSent();
        }

        await arrived.Task.WaitAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Reads what the receiver says until the connection ends; returns why.</summary>
    public async Task<string> RunAsync()
    {
        try
        {
            while (true)
            {
                ChannelMessage message = await _socket.ReadMessageAsync(CancellationToken.None).ConfigureAwait(false);
                switch (message.Kind)
                {
                    case MessageKind.Arrived:
                        if (_sent.TryRemove(message.Id, out TaskCompletionSource? arrived))
                        {
                            arrived.TrySetResult();
                        }

                        CreditIfAny(message.Bytes);
                        break;
                    case MessageKind.Credit:
                        CreditIfAny(message.Bytes);
                        break;
                    case MessageKind.Want:
                        _window.Admit(message.Id);
                        break;
                    case MessageKind.Fault:
                        throw new ChannelException($"the receiver closed it: {message.Text}");
                    default:
                        throw new ChannelException($"a message of kind {message.Kind} is none that a receiver sends");
                }
            }
        }
        catch (Exception exception)
        {
            // Whatever ended the reader belongs to those who send.
            Break(ChannelSocket.ReasonOf(exception));
            return _broken!.Message;
        }
    }

    /// <summary>Ends the connection; who sends on it fails with <paramref name="reason"/>.</summary>
    public void Break(string reason)
    {
        if (Interlocked.CompareExchange(ref _broken, new($"the connection to {_peer} was lost: {reason}"), null) is null)
        {
            _socket.Dispose();
            _window.Close(_broken!);
            FailSent();
            _broke(this);
        }
    }

    /// <summary>Ends the connection. The turn is not disposed: whoever holds it gives it back first.</summary>
    public void Dispose() => Break("this channel was closed");

    private void FailSent()
    {
        foreach (long id in _sent.Keys)
        {
            if (_sent.TryRemove(id, out TaskCompletionSource? arrived))
            {
                arrived.TrySetException(new ChannelException(_broken!.Message));
            }
        }
    }

    private void CreditIfAny(long bytes)
    {
        if (bytes != 0)
        {
            _window.Credit(bytes);
        }
    }

    private async Task WaitForRoomAsync(long id, long bytes, Task admitted, CancellationToken cancellationToken)
    {
        try
        {
            await TellAsync(MessageKind.Offer, id, cancellationToken).ConfigureAwait(false);
            await admitted.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            if (!_window.Leave(id) && !IsBroken)
            {
                _window.Credit(bytes);
            }

            _ = WithdrawAsync(id);
            throw;
        }
    }

    private async Task WithdrawAsync(long id)
    {
        try
        {
            await TellAsync(MessageKind.Withdraw, id, CancellationToken.None).ConfigureAwait(false);
        }
        catch (Exception exception) when (exception is ChannelException or ObjectDisposedException)
        {
            // The connection is gone, and the offer with it.
        }
    }

    private async Task TellAsync(MessageKind kind, long id, CancellationToken cancellationToken)
    {
        await _turn.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            await WriteAsync(() => _frames.WriteAsync(new(kind, id), CancellationToken.None)).ConfigureAwait(false);
        }
        finally
        {
            _turn.Release();
        }
    }

    private async ValueTask WriteAsync(Func<ValueTask> write)
    {
        if (Volatile.Read(ref _broken) is { } broken)
        {
            throw new ChannelException(broken.Message);
        }

        try
        {
            await write().ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            Break("a sending was cancelled in the middle of a tensor");
            throw;
        }
        catch (Exception exception) when (exception is SocketException or ObjectDisposedException)
        {
            Break(ChannelSocket.ReasonOf(exception));
            throw new ChannelException(_broken!.Message, exception);
        }
    }
}
