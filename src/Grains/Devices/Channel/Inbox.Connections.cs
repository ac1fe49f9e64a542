using System.Diagnostics;

namespace Krewe.Grains.Devices.Channel;

/// <content>What the readers of connections call.</content>
internal sealed partial class Inbox
{
    /// <summary>
    /// Takes a connection in and sets its window.
    /// </summary>
    /// <returns>False where the inbox is closed, or where there is one of this sender.</returns>
    public bool Add(IncomingConnection connection)
    {
        lock (_lock)
        {
            if (_closed is not null || _connections.ContainsKey(connection.Sender))
            {
                return false;
            }

            long left = options.UnclaimedBytes - _windows - _orphanedBytes;
            connection.Window = Math.Clamp(left, 0, options.InFlightBytes);
            _windows += connection.Window;
            _connections[connection.Sender] = connection;
            return true;
        }
    }

    /// <summary>The connection of a sender, if there is one.</summary>
    public IncomingConnection? Find(Guid sender)
    {
        lock (_lock)
        {
            return _connections.GetValueOrDefault(sender);
        }
    }

    /// <summary>Forgets a connection that ended and fails the receivers that wait for its sender.</summary>
    public void Lost(IncomingConnection connection, string reason)
    {
        List<PendingReceive> given = [];
        lock (_lock)
        {
            _connections.Remove(connection.Sender);
            connection.IsLost = true;
            _windows -= connection.Window;
            _orphanedBytes += connection.UnclaimedBytes;
            given.AddRange(_pending.Values.Where(one => one.Ticket.Sender == connection.Sender && !one.IsFilling));
        }

        given.ForEach(one => Abandon(one, Failure(one.Ticket, $"{connection.Peer} was lost: {reason}")));
    }

    /// <summary>The sender has no room for this ticket: asks for it if somebody waits, now or later.</summary>
    public void Offer(IncomingConnection connection, long id)
    {
        lock (_lock)
        {
            if (!_pending.ContainsKey((connection.Sender, id)))
            {
                connection.Offers.Add(id);
                return;
            }
        }

        connection.Post(new(MessageKind.Want, id));
    }

    /// <summary>The sender gave an offered ticket up.</summary>
    public void Withdraw(IncomingConnection connection, long id)
    {
        lock (_lock)
        {
            connection.Offers.Remove(id);
        }
    }

    /// <summary>
    /// Says where a tensor belongs that begins to arrive: into the tensor of a receiver (returned, to be given back by
    /// <see cref="Finish"/>), into a buffer (<paramref name="keep"/>, for <see cref="Keep"/>), or nowhere.
    /// </summary>
    public PendingReceive? Begin(IncomingConnection connection, in ChannelMessage header, out bool keep)
    {
        keep = false;
        lock (_lock)
        {
            connection.Offers.Remove(header.Id);
            (Guid, long) key = (connection.Sender, header.Id);
            if (_pending.TryGetValue(key, out PendingReceive? pending) && !pending.IsFilling)
            {
                CheckHeader(header, pending.Ticket, connection.Peer);
                pending.IsFilling = true;
                pending.Filler = connection;
                return pending;
            }

            // More than the window allows comes only where a receiver asked for it and left again.
            bool fits = connection.UnclaimedBytes == 0 || connection.UnclaimedBytes + header.Bytes <= connection.Window;
            keep = pending is null && fits && _closed is null && !IsDiscarded(header.Scope, header.Attempt)
                && !_arrived.ContainsKey(key);
            if (keep)
            {
                connection.UnclaimedBytes += header.Bytes;
                _unclaimedBytes += header.Bytes;
            }

            return null;
        }
    }

    /// <summary>A tensor is complete, or will not be (<paramref name="failure"/>): lets the receiver go.</summary>
    public void Finish(PendingReceive pending, Exception? failure)
    {
        lock (_lock)
        {
            if (!pending.IsFilling)
            {
                return;
            }

            Remove(pending);
            pending.IsFilling = false;
            failure = pending.Abandoned ?? failure;
        }

        pending.Complete(failure);
    }

    /// <summary>A tensor is complete in a buffer: hands it to a receiver who came meanwhile, or keeps it.</summary>
    public void Keep(IncomingConnection connection, in ChannelMessage header, nint address)
    {
        var arrived = new ArrivedTensor(
            connection, header, address, Stopwatch.GetTimestamp() + Ticks(options.UnclaimedLife));
        PendingReceive? pending;
        ChannelException? mismatch = null;
        lock (_lock)
        {
            (Guid, long) key = (connection.Sender, header.Id);
            if (!_pending.TryGetValue(key, out pending))
            {
                if (_closed is null && !IsDiscarded(header.Scope, header.Attempt) && _arrived.TryAdd(key, arrived))
                {
                    return;
                }
            }
            else
            {
                pending.IsFilling = true;
                pending.Filler = null;
            }
        }

        if (pending is not null)
        {
            try
            {
                CheckHeader(header, pending.Ticket, connection.Peer);
                arrived.CopyTo(pending.Target);
            }
            catch (ChannelException exception)
            {
                mismatch = exception;
            }

        }

        Release(arrived);
        if (pending is not null)
        {
            Finish(pending, mismatch);
        }
    }

    /// <summary>Frees the buffer of a tensor and gives its sender the room back.</summary>
    public void Release(ArrivedTensor arrived) =>
        Release(arrived.Source, arrived.Address, arrived.Header.Bytes);

    /// <summary>As the other overload, for a buffer that was never filled.</summary>
    public void Release(IncomingConnection connection, nint address, long bytes)
    {
        pool.Return(address, bytes);
        lock (_lock)
        {
            _unclaimedBytes -= bytes;
            connection.UnclaimedBytes -= bytes;
            _orphanedBytes -= connection.IsLost ? bytes : 0;
        }

        connection.Post(new(MessageKind.Credit, Bytes: bytes));
    }
}
