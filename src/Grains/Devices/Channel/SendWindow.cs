namespace Krewe.Grains.Devices.Channel;

/// <summary>
/// The room that a receiver gives a sender: bytes that may be under way or unclaimed. Who finds no room waits in line;
/// a ticket that the receiver wants goes at once, for its memory waits. Thread-safe.
/// </summary>
internal sealed class SendWindow(long bytes)
{
    private readonly Lock _lock = new();
    private readonly LinkedList<Waiter> _line = new();
    private long _used;
    private Exception? _closed;

    private sealed record Waiter(long Id, long Bytes)
    {
        public TaskCompletionSource Admitted { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }

    /// <summary>Bytes sent and not credited yet.</summary>
    public long UsedBytes => Volatile.Read(ref _used);

    /// <summary>Takes room for a tensor; null where there was some, else what completes when there is.</summary>
    public Task? Enter(long id, long size)
    {
        lock (_lock)
        {
            if (_closed is not null)
            {
                return Task.FromException(_closed);
            }

            if (_line.Count == 0 && Fits(size))
            {
                _used += size;
                return null;
            }

            return _line.AddLast(new Waiter(id, size)).Value.Admitted.Task;
        }
    }

    /// <summary>Gives up waiting; false where the room was given meanwhile and must be credited.</summary>
    public bool Leave(long id)
    {
        lock (_lock)
        {
            LinkedListNode<Waiter>? node = Find(id);
            if (node is null)
            {
                return false;
            }

            _line.Remove(node);
            AdmitWhoFits();
            return true;
        }
    }

    /// <summary>The receiver waits for this ticket: lets it pass.</summary>
    public void Admit(long id)
    {
        lock (_lock)
        {
            if (Find(id) is { } node)
            {
                Admit(node);
                AdmitWhoFits();
            }
        }
    }

    /// <summary>Room comes back.</summary>
    /// <exception cref="ChannelException">More than was taken.</exception>
    public void Credit(long size)
    {
        lock (_lock)
        {
            if (size <= 0 || size > _used)
            {
                throw new ChannelException($"a credit of {size:N0} bytes with {_used:N0} under way");
            }

            _used -= size;
            AdmitWhoFits();
        }
    }

    /// <summary>Fails who waits and who comes.</summary>
    public void Close(Exception reason)
    {
        lock (_lock)
        {
            _closed = reason;
            foreach (Waiter waiter in _line)
            {
                waiter.Admitted.SetException(reason);
            }

            _line.Clear();
        }
    }

    /// <summary>A tensor larger than the window goes alone.</summary>
    private bool Fits(long size) => _used == 0 || _used + size <= bytes;

    private void AdmitWhoFits()
    {
        while (_line.First is { } first && Fits(first.Value.Bytes))
        {
            Admit(first);
        }
    }

    private void Admit(LinkedListNode<Waiter> node)
    {
        _line.Remove(node);
        _used += node.Value.Bytes;
        node.Value.Admitted.SetResult();
    }

    private LinkedListNode<Waiter>? Find(long id)
    {
        LinkedListNode<Waiter>? node = _line.First;
        while (node is not null && node.Value.Id != id)
        {
            node = node.Next;
        }

        return node;
    }
}
