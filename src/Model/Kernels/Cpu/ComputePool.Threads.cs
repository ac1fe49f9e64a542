using System.Diagnostics;

namespace Krewe.Model.Kernels.Cpu;

/// <content>What a computing thread does: jobs, then other jobs' loops, then spinning and parking.</content>
public sealed unsafe partial class ComputePool
{
    private void Signal(int wanted, bool all = false)
    {
        // The full fence of the increment stands between publishing the work and reading the sleepers; a sleeper counts
        // itself, with a fence, before it looks at the signal. One of the two sees the other.
        Interlocked.Increment(ref _signal);
        int sleepers = Volatile.Read(ref _sleepers);
        if (sleepers == 0)
        {
            return;
        }

        lock (_gate)
        {
            if (all || wanted >= sleepers)
            {
                Monitor.PulseAll(_gate);
                return;
            }

            for (int i = 0; i < wanted; i++)
            {
                Monitor.Pulse(_gate);
            }
        }
    }

    private void Work(int index)
    {
        t_pool = this;
        t_index = index;
        if (_pin)
        {
            ThreadAffinity.Pin(index);
        }

        while (true)
        {
            int seen = Volatile.Read(ref _signal);
            if (TryTakeJob(out IComputeJob? job))
            {
                Interlocked.Increment(ref _running);
                job.Run();
                Interlocked.Decrement(ref _running);
            }
            else if (!HelpAny(index))
            {
                if (Volatile.Read(ref _disposed))
                {
                    return;
                }

                SpinThenPark(seen);
            }
        }
    }

    private bool TryTakeJob([System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out IComputeJob? job)
    {
        job = null;
        if (Volatile.Read(ref _jobCount) == 0)
        {
            return false;
        }

        lock (_queueLock)
        {
            bool taken = _jobs.TryDequeue(out job);
            Volatile.Write(ref _jobCount, _jobs.Count);
            return taken;
        }
    }

    private bool HelpAny(int index)
    {
        // The thread outside the pool that masters a loop takes the place of the last pool thread.
        int end = index == _threads.Length - 1 ? _threads.Length : _slots.Length;
        bool helped = false;
        t_loopDepth++;
        for (int i = 0; i < end; i++)
        {
            LoopSlot slot = _slots[i];
            if (i != index && slot.HasParts)
            {
                helped |= slot.Help(ref _jobCount, master: false);
            }
        }

        t_loopDepth--;
        return helped;
    }

    private void SpinThenPark(int seen)
    {
        bool watches = Interlocked.CompareExchange(ref _watching, 1, 0) == 0;
        try
        {
            if (Spin(seen, watches))
            {
                return;
            }
        }
        finally
        {
            if (watches)
            {
                Volatile.Write(ref _watching, 0);
            }
        }

        lock (_gate)
        {
            Interlocked.Increment(ref _sleepers);
            if (Volatile.Read(ref _signal) == seen)
            {
                Monitor.Wait(_gate);
            }

            Interlocked.Decrement(ref _sleepers);
        }
    }

    /// <summary>
    /// Spins until there is a signal (true) or the time is over; one thread of the pool watches for longer.
    /// </summary>
    private bool Spin(int seen, bool watches)
    {
        long start = Stopwatch.GetTimestamp();
        int idle = watches ? WatchMicroseconds : IdleSpinMicroseconds;
        long idleTicks = Math.Min(watches ? 2 * _spinTicks : _spinTicks, Stopwatch.Frequency * idle / 1_000_000);
        long yieldTicks = 2 * Stopwatch.Frequency * IdleSpinMicroseconds / 1_000_000;
        long yielded = start;
        while (true)
        {
            for (int i = 0; i < 16; i++)
            {
                if (Volatile.Read(ref _signal) != seen)
                {
                    return true;
                }

                Thread.SpinWait(2);
            }

            long now = Stopwatch.GetTimestamp();
            if (now - start >= (Volatile.Read(ref _running) > 0 ? Math.Max(_spinTicks, idleTicks) : idleTicks))
            {
                return false;
            }

            if (now - yielded >= yieldTicks)
            {
                Thread.Yield();
                yielded = now;
            }
        }
    }
}
