using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;

namespace Krewe.Model.Kernels.Cpu;

/// <summary>
/// One running fork-join loop: a counter of parts to claim, and one of parts done. A slot is reused for one loop after
/// the other; a helper may look at it at any time.
/// </summary>
/// <remarks>
/// The high half of <see cref="_state"/> counts loops, the low half the parts not yet claimed, so a claim made against
/// an older loop fails its compare-and-swap. Body, context and count are read only after a claim: from then until the
/// part is reported as done, the master cannot leave this loop.
/// </remarks>
internal sealed unsafe class LoopSlot(bool external)
{
    private const int SpinsBeforeParking = 400;

    private readonly Lock _rent = new();
    private readonly object _gate = new();
    private long _state;
    private int _count;
    private int _completed;
    private bool _masterParked;
    private bool _rented;
    private delegate*<void*, int, void> _body;
    private void* _context;
    private Exception? _error;

    /// <summary>True where the master is not a pool thread.</summary>
    public bool External { get; } = external;

    /// <summary>True while parts are left to claim.</summary>
    public bool HasParts => (uint)Volatile.Read(ref _state) != 0;

    /// <summary>Takes the slot for a thread that is not of the pool.</summary>
    public bool TryRent()
    {
        lock (_rent)
        {
            if (_rented)
            {
                return false;
            }

            _rented = true;
            return true;
        }
    }

    /// <summary>Gives a rented slot back.</summary>
    public void Return()
    {
        lock (_rent)
        {
            _rented = false;
        }
    }

    /// <summary>Offers a loop to helpers.</summary>
    public void Open(int count, delegate*<void*, int, void> body, void* context)
    {
        _body = body;
        _context = context;
        _count = count;
        _error = null;
        _completed = 0;
        long epoch = (_state >> 32) + 1;
        Volatile.Write(ref _state, (epoch << 32) | (uint)count);
    }

    /// <summary>Claims and runs parts until none is left, or until <paramref name="jobs"/> is not zero.</summary>
    /// <returns>True where at least one part was run.</returns>
    public bool Help(ref int jobs, bool master)
    {
        int done = 0;
        int count = 0;
        while (master || Volatile.Read(ref jobs) == 0)
        {
            long state = Volatile.Read(ref _state);
            if ((uint)state == 0)
            {
                break;
            }

            if (Interlocked.CompareExchange(ref _state, state - 1, state) != state)
            {
                continue;
            }

            count = _count;
            RunPart(count - (int)(uint)state);
            done++;
        }

        if (done > 0 && Interlocked.Add(ref _completed, done) == count && !master && Volatile.Read(ref _masterParked))
        {
            lock (_gate)
            {
                Monitor.PulseAll(_gate);
            }
        }

        return done > 0;
    }

    /// <summary>Waits for the parts that helpers still run, then rethrows the first error.</summary>
    public void Close()
    {
        for (int spin = 0; Volatile.Read(ref _completed) != _count; spin++)
        {
            if (spin < SpinsBeforeParking)
            {
                Thread.SpinWait(8);
                continue;
            }

            lock (_gate)
            {
                Volatile.Write(ref _masterParked, true);
                Interlocked.MemoryBarrier();
                while (Volatile.Read(ref _completed) != _count)
                {
                    Monitor.Wait(_gate);
                }

                _masterParked = false;
            }

            break;
        }

        Exception? error = _error;
        if (error is not null)
        {
            _error = null;
            ExceptionDispatchInfo.Throw(error);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void RunPart(int index)
    {
        try
        {
            _body(_context, index);
        }
        catch (Exception exception) when (Keep(exception))
        {
        }
    }

    private bool Keep(Exception exception)
    {
        Interlocked.CompareExchange(ref _error, exception, null);
        return true;
    }
}
