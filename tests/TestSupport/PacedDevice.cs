using System.Diagnostics;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.TestSupport;

/// <summary>
/// A device of a set speed: work runs for real, in the order of a <see cref="WorkQueue{T}"/>, and is done when the matrix products in it
/// would be done at that speed. Several of them run in parallel on fewer cores, as long as the real work is short
/// against its set time.
/// </summary>
public sealed class PacedDevice : IDevice
{
    /// <summary>The end of a wait is spun, since a sleep ends up to this late.</summary>
    private static readonly TimeSpan _spin = TimeSpan.FromMilliseconds(1.2);

    private readonly IDevice _inner;
    private readonly double _multiplyAddsPerSecond;
    private readonly MeteredKernels _kernels;
    private readonly WorkQueue<Piece> _queue = new();
    private readonly Thread _thread;
    private long _freeAt;
    private long _busyTicks;
    private bool _disposed;

    private sealed record Piece(Action<IKernels> Work, long Submitted, TaskCompletionSource Done);

    /// <param name="inner">Does the work; disposed with this device.</param>
    /// <param name="multiplyAddsPerSecond">The speed.</param>
    /// <param name="storage">What operands rounded to bfloat16 are kept in; the inner device's choice where left out.</param>
    public PacedDevice(IDevice inner, double multiplyAddsPerSecond, DType? storage = null)
    {
        (_inner, _multiplyAddsPerSecond) = (inner, multiplyAddsPerSecond);
        _kernels = new(inner.Kernels, storage);
        _thread = new(Run) { IsBackground = true, Name = $"{inner.Name}, paced", Priority = ThreadPriority.AboveNormal };
        _thread.Start();
    }

    public string Name => _inner.Name;

    public IKernels Kernels => _kernels;

    public string MemorySpace => _inner.MemorySpace;

    public long ReservedBytes => _inner.ReservedBytes;

    /// <summary>Set time of everything that was done so far.</summary>
    public TimeSpan Busy => Stopwatch.GetElapsedTime(0, Interlocked.Read(ref _busyTicks));

    /// <summary>Longest time by which a piece of work was done later than set.</summary>
    public TimeSpan WorstDelay { get; private set; }

    public DeviceLoss Loss => _inner.Loss;

    public Arena CreateArena(string name) => _inner.CreateArena(name);

    public Arena CreateHostArena(string name) => _inner.CreateHostArena(name);

    public Task SubmitAsync(Action<IKernels> work, WorkPriority priority = default)
    {
        var piece = new Piece(
            work, Stopwatch.GetTimestamp(), new(TaskCreationOptions.RunContinuationsAsynchronously));
        lock (_queue)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            _queue.Enqueue(piece, priority);
            Monitor.Pulse(_queue);
        }

        return piece.Done.Task;
    }

    public Task SubmitAsync<TState>(
        Action<IKernels, TState> work, TState state, WorkPriority priority = default) =>
        SubmitAsync(kernels => work(kernels, state), priority);

    public Task? TryCopyFrom(IDevice source, Tensor from, Tensor to) =>
        _inner.TryCopyFrom(source is PacedDevice other ? other._inner : source, from, to);

    public void Dispose()
    {
        lock (_queue)
        {
            _disposed = true;
            Monitor.Pulse(_queue);
        }

        _thread.Join();
        _inner.Dispose();
    }

    /// <summary>Waits for the next piece; null when the device was disposed and nothing is left.</summary>
    private Piece? Next()
    {
        lock (_queue)
        {
            while (_queue.Count == 0 && !_disposed)
            {
                Monitor.Wait(_queue);
            }

            return _queue.Count > 0 ? _queue.Dequeue() : null;
        }
    }

    private void Run()
    {
        while (Next() is var (work, submitted, done))
        {
            long before = _kernels.MultiplyAdds;
            Task real = _inner.SubmitAsync(_ => work(_kernels));
            real.ContinueWith(_ => { }, TaskScheduler.Default).Wait();
            long ticks = (long)((_kernels.MultiplyAdds - before) / _multiplyAddsPerSecond * Stopwatch.Frequency);
            _busyTicks += ticks;
            // From when it could have begun, so that one late wake-up does not delay all that waits behind it.
            _freeAt = Math.Max(submitted, _freeAt) + ticks;
            WaitUntil(_freeAt);
            done.SetFromTask(real);
        }
    }

    private void WaitUntil(long time)
    {
        while (Stopwatch.GetElapsedTime(Stopwatch.GetTimestamp(), time) is { } left && left > TimeSpan.Zero)
        {
            if (left > _spin)
            {
                Thread.Sleep(left - _spin);
            }
            else
            {
                Thread.Sleep(0);
            }
        }

        TimeSpan late = Stopwatch.GetElapsedTime(time);
        WorstDelay = late > WorstDelay ? late : WorstDelay;
    }
}
