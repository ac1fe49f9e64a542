using System.Diagnostics;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Devices.Channel;

/// <summary>
/// Where tensors that came and receivers that wait meet. Everything that a connection's reader calls returns at once:
/// a reader never waits for a receiver.
/// </summary>
internal sealed partial class Inbox(TensorChannelOptions options, NativeBufferPool pool)
{
    private readonly Lock _lock = new();
    private readonly Dictionary<(Guid Sender, long Id), PendingReceive> _pending = [];
    private readonly Dictionary<(Guid Sender, long Id), ArrivedTensor> _arrived = [];
    private readonly Dictionary<Guid, IncomingConnection> _connections = [];
    private readonly Dictionary<long, long> _floors = [];
    private long _unclaimedBytes;
    private long _windows;
    private long _orphanedBytes;
    private string? _closed;

    /// <summary>Bytes of tensors, whole or on their way, that nobody asked for.</summary>
    public long UnclaimedBytes => Volatile.Read(ref _unclaimedBytes);

    /// <summary>Receivers that wait.</summary>
    public int PendingCount
    {
        get
        {
            lock (_lock)
            {
                return _pending.Count;
            }
        }
    }

    /// <summary>Waits for a tensor and puts it into <paramref name="target"/>, dense and of the ticket's shape.</summary>
    public ValueTask<Tensor> ReceiveAsync(TensorTicket ticket, Tensor target, CancellationToken cancellationToken)
    {
        ArrivedTensor? arrived;
        PendingReceive? pending = null;
        IncomingConnection? offered = null;
        (Guid Sender, long Id) key = (ticket.Sender, ticket.Id);
        lock (_lock)
        {
            if (_closed is not null || IsDiscarded(ticket.Scope, ticket.Attempt))
            {
                throw Failure(ticket, _closed ?? "its attempt was discarded");
            }

            if (_arrived.TryGetValue(key, out arrived))
            {
                CheckHeader(arrived.Header, ticket, arrived.Source.Peer);
                _arrived.Remove(key);
            }
            else
            {
                pending = new(ticket, target, Stopwatch.GetTimestamp() + Ticks(options.ReceiveDeadline));
                if (!_pending.TryAdd(key, pending))
                {
                    throw new InvalidOperationException($"{ticket} is awaited twice");
                }

                if (_connections.TryGetValue(ticket.Sender, out IncomingConnection? connection)
                    && connection.Offers.Remove(ticket.Id))
                {
                    offered = connection;
                }
            }
        }

        if (arrived is not null)
        {
            arrived.CopyTo(target);
            Release(arrived);
            return new(target);
        }

        offered?.Post(new(MessageKind.Want, ticket.Id));
        return new(cancellationToken.CanBeCanceled ? AwaitAsync(pending!, cancellationToken) : pending!.Done);
    }

    /// <summary>Drops what belongs to attempts of a scope below <paramref name="beforeAttempt"/>, now and later.</summary>
    public void Discard(long scope, long beforeAttempt)
    {
        List<ArrivedTensor> dropped = [];
        List<PendingReceive> given = [];
        lock (_lock)
        {
            _floors[scope] = Math.Max(beforeAttempt, _floors.GetValueOrDefault(scope, long.MinValue));
            foreach (((Guid, long) key, ArrivedTensor arrived) in _arrived)
            {
                if (IsDiscarded(arrived.Header.Scope, arrived.Header.Attempt))
                {
                    _arrived.Remove(key);
                    dropped.Add(arrived);
                }
            }

            given.AddRange(_pending.Values.Where(one => IsDiscarded(one.Ticket.Scope, one.Ticket.Attempt)));
        }

        dropped.ForEach(Release);
        given.ForEach(one => Abandon(one, Failure(one.Ticket, "its attempt was discarded")));
    }

    /// <summary>Fails receivers past their deadline and drops tensors past their life.</summary>
    public void Sweep()
    {
        long now = Stopwatch.GetTimestamp();
        List<ArrivedTensor> dropped = [];
        List<PendingReceive> late = [];
        lock (_lock)
        {
            foreach (((Guid, long) key, ArrivedTensor arrived) in _arrived)
            {
                if (arrived.Expires < now)
                {
                    _arrived.Remove(key);
                    dropped.Add(arrived);
                }
            }

            late.AddRange(_pending.Values.Where(one => one.Deadline < now && one.Abandoned is null));
        }

        dropped.ForEach(Release);
        foreach (PendingReceive one in late)
        {
            Abandon(one, Failure(one.Ticket, $"nothing came within {options.ReceiveDeadline.TotalSeconds:0.###} s"));
        }
    }

    /// <summary>Fails all receivers, present and future, and frees what nobody asked for.</summary>
    public void Close(string reason)
    {
        List<ArrivedTensor> dropped;
        List<PendingReceive> given;
        lock (_lock)
        {
            _closed = reason;
            dropped = [.. _arrived.Values];
            given = [.. _pending.Values];
            _arrived.Clear();
        }

        dropped.ForEach(Release);
        given.ForEach(one => Abandon(one, Failure(one.Ticket, reason)));
    }

    private async Task<Tensor> AwaitAsync(PendingReceive pending, CancellationToken cancellationToken)
    {
        using CancellationTokenRegistration registration = cancellationToken.UnsafeRegister(
            (state, token) => Abandon((PendingReceive)state!, new OperationCanceledException(token)), pending);
        return await pending.Done.ConfigureAwait(false);
    }

    /// <summary>Lets a receiver go as soon as nobody writes to its tensor.</summary>
    private void Abandon(PendingReceive pending, Exception reason)
    {
        bool filling;
        lock (_lock)
        {
            filling = pending.IsFilling;
            if (filling)
            {
                pending.Abandoned ??= reason;
            }
            else
            {
                Remove(pending);
            }
        }

        if (filling)
        {
            pending.Filler?.InterruptFill();
        }
        else
        {
            pending.Complete(reason);
        }
    }

    /// <summary>Forgets a receiver, and no other one that waits for the same ticket since.</summary>
    private void Remove(PendingReceive pending) =>
        ((ICollection<KeyValuePair<(Guid, long), PendingReceive>>)_pending).Remove(
            new((pending.Ticket.Sender, pending.Ticket.Id), pending));

    private bool IsDiscarded(long scope, long attempt) =>
        _floors.TryGetValue(scope, out long floor) && attempt < floor;

    private static long Ticks(TimeSpan time) => (long)(time.TotalSeconds * Stopwatch.Frequency);

    private static ChannelException Failure(TensorTicket ticket, string reason) => new($"receiving {ticket} failed: {reason}");

    private static void CheckHeader(in ChannelMessage header, TensorTicket ticket, string peer)
    {
        if (header.DType != ticket.DType || header.Shape != TensorShape.Of(ticket.Shape))
        {
            throw new ChannelException(
                $"receiving {ticket} failed: {peer} sent {header.DType}{header.Shape} under this ticket");
        }
    }
}
