using System.Diagnostics;
using System.Runtime.CompilerServices;

namespace Krewe.Model.Kernels.Cpu;

/// <summary>
/// The computing threads of a process, shared by all its CPU devices. A <em>job</em> runs on one thread, its master;
/// the loops that the job forks are helped by threads which have no job of their own.
/// </summary>
/// <remarks>
/// <para>Work-conserving: two jobs run on two threads at once; when one ends, its thread helps the other's loops, and
/// it leaves them between two parts as soon as a job waits. The master always takes part in its own loop, so a loop
/// ends even if nobody helps.</para>
/// <para>An idle thread spins, then parks. While a job runs, its next loop is near: the thread spins for
/// <see cref="SpinMicroseconds"/> and yields the core now and then. Without a job all threads but one park almost at
/// once, so that the grain turn which decides what comes next finds a free core; two spinning threads on two cores
/// would delay it by their whole spin time. Two spinning threads may also share a core while another idles, which the
/// scheduler corrects only when one blocks.</para>
/// <para>These are not thread-pool threads: a long kernel cannot starve Orleans' turns.</para>
/// </remarks>
public sealed unsafe partial class ComputePool : IDisposable
{
    /// <summary>How long a thread looks for work before it parks while a job runs, in microseconds. With gaps of 20 to
    /// 60 microseconds between loops, 100 reached 1.01 to 1.17 times the ideal time and 30 reached 1.14 to 1.56, other
    /// builds running (benchmarks/Kernels, case 'pool').</summary>
    public const int SpinMicroseconds = 100;

    /// <summary>The same while no job runs.</summary>
    private const int IdleSpinMicroseconds = 5;

    /// <summary>
    /// The same for the one thread that watches for the next job: between two layers of a decoded token the grain turn
    /// that decides what comes next takes tens of microseconds, about as long as waking a parked thread.
    /// </summary>
    private const int WatchMicroseconds = 150;

    private const int ExternalSlots = 16;

    [ThreadStatic]
    private static ComputePool? t_pool;

    [ThreadStatic]
    private static int t_index;

    [ThreadStatic]
    private static int t_loopDepth;

    private readonly object _gate = new();
    private readonly Lock _queueLock = new();
    private readonly Queue<IComputeJob> _jobs = new();
    private readonly LoopSlot[] _slots;
    private readonly Thread[] _threads;
    private readonly bool _pin;
    private readonly long _spinTicks;
    private int _jobCount;
    private int _signal;
    private int _sleepers;
    private int _running;
    private int _watching;
    private bool _disposed;

    /// <summary>Starts the threads.</summary>
    /// <param name="threads">Number of computing threads, at least 1.</param>
    /// <param name="pin">Binds thread i to the i-th core that the process may use (Linux; elsewhere ignored).</param>
    public ComputePool(int threads, bool pin = false)
        : this(threads, pin, SpinMicroseconds)
    {
    }

    /// <summary>As the other constructor, with another spin time: for measuring it.</summary>
    internal ComputePool(int threads, bool pin, int spinMicroseconds)
    {
        _spinTicks = Stopwatch.Frequency * spinMicroseconds / 1_000_000;
        ArgumentOutOfRangeException.ThrowIfLessThan(threads, 1);
        _pin = pin;
        _slots = new LoopSlot[threads + ExternalSlots];
        for (int i = 0; i < _slots.Length; i++)
        {
            _slots[i] = new(external: i >= threads);
        }

        _threads = new Thread[threads];
        for (int i = 0; i < threads; i++)
        {
            int index = i;
            _threads[i] = new Thread(() => Work(index)) { IsBackground = true, Name = $"krewe compute {i}" };
        }

        foreach (Thread thread in _threads)
        {
            thread.Start();
        }
    }

    /// <summary>
    /// A pool of that many threads, bound to the cores where it takes all of them. Otherwise the kernel may keep two
    /// busy threads on one core for seconds while another idles: seen in half of the runs on two cores, at half the
    /// speed (docs/decisions/0005). A smaller pool is left free, so that two processes do not meet on the same cores.
    /// </summary>
    /// <param name="threads">Number of computing threads, at least 1.</param>
    public static ComputePool ForThisMachine(int threads) =>
        new(threads, pin: threads > 1 && threads == Environment.ProcessorCount);

    /// <summary>Number of computing threads.</summary>
    public int Threads => _threads.Length;

    /// <summary>Jobs that wait for a thread.</summary>
    public int WaitingJobs => Volatile.Read(ref _jobCount);

    /// <summary>Queues a job; jobs start in this order.</summary>
    /// <exception cref="ObjectDisposedException">The pool was disposed.</exception>
    public void Submit(IComputeJob job)
    {
        ArgumentNullException.ThrowIfNull(job);
        lock (_queueLock)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            _jobs.Enqueue(job);
            Volatile.Write(ref _jobCount, _jobs.Count);
        }

        Signal(1);
    }

    /// <summary>Queues a job that already ran and has more to do, even while the pool is being disposed.</summary>
    internal void Resubmit(IComputeJob job)
    {
        lock (_queueLock)
        {
            _jobs.Enqueue(job);
            Volatile.Write(ref _jobCount, _jobs.Count);
        }

        Signal(1);
    }

    /// <summary>Runs <paramref name="work"/> as a job; an exception becomes the task's.</summary>
    public Task RunAsync(Action work)
    {
        ArgumentNullException.ThrowIfNull(work);
        ActionJob job = new(work);
        Submit(job);
        return job.Task;
    }

    /// <summary>
    /// Runs <paramref name="body"/> for 0 to <paramref name="count"/> - 1 and returns when all are done. May be called
    /// from any thread; inside a loop's body it runs in place. Allocates nothing.
    /// </summary>
    /// <exception cref="Exception">The first exception of a part, after all parts ended.</exception>
    public void For<TLoop>(int count, TLoop body) where TLoop : struct, ILoop
    {
        LoopSlot? slot = count > 1 && t_loopDepth == 0 ? TakeSlot() : null;
        if (slot is null)
        {
            for (int i = 0; i < count; i++)
            {
                body.Run(i);
            }

            return;
        }

        slot.Open(count, &Invoke<TLoop>, Unsafe.AsPointer(ref body));
        Signal(count - 1, slot.External);
        t_loopDepth++;
        slot.Help(ref _jobCount, master: true);
        t_loopDepth--;
        try
        {
            slot.Close();
        }
        finally
        {
            if (slot.External)
            {
                slot.Return();
            }
        }
    }

    /// <summary>Runs the jobs that were submitted, then ends the threads.</summary>
    public void Dispose()
    {
        lock (_queueLock)
        {
            if (_disposed)
            {
                return;
            }

            _disposed = true;
        }

        Signal(int.MaxValue);
        foreach (Thread thread in _threads)
        {
            if (thread != Thread.CurrentThread)
            {
                thread.Join();
            }
        }
    }

    private static void Invoke<TLoop>(void* body, int index) where TLoop : struct, ILoop =>
        Unsafe.AsRef<TLoop>(body).Run(index);

    private LoopSlot? TakeSlot()
    {
        if (t_pool == this)
        {
            return _threads.Length > 1 ? _slots[t_index] : null;
        }

        for (int i = _threads.Length; _threads.Length > 1 && i < _slots.Length; i++)
        {
            if (_slots[i].TryRent())
            {
                return _slots[i];
            }
        }

        return null;
    }

    private sealed class ActionJob(Action work)
        : TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously), IComputeJob
    {
        public void Run()
        {
#pragma warning disable CA1031 // The exception is the task's: it reaches whoever awaits the job.
            try
            {
                work();
                SetResult();
            }
            catch (Exception exception)
            {
                SetException(exception);
            }
#pragma warning restore CA1031
        }
    }
}
