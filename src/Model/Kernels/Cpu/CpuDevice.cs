using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Cpu;

/// <summary>
/// A share of the machine's cores: its work runs one after the other, in the order of a <see cref="WorkQueue{T}"/>, on the
/// threads of a <see cref="ComputePool"/>. Devices of one pool run at the same time and lend each other idle threads.
/// </summary>
public sealed class CpuDevice : IDevice, IComputeJob
{
    private readonly ComputePool _pool;
    private readonly CpuKernels _kernels;
    private readonly object _gate = new();
    private readonly WorkQueue<Work> _queue = new();
    private bool _scheduled;
    private bool _disposed;
    private int _runningThread;
    private long _reservedBytes;

    /// <summary>A device on <paramref name="pool"/>, which the device does not own.</summary>
    public CpuDevice(ComputePool pool, string name)
    {
        ArgumentNullException.ThrowIfNull(pool);
        _pool = pool;
        Name = name;
        Loss = new(name);
        _kernels = new(pool);
    }

    /// <inheritdoc/>
    public string Name { get; }

    /// <inheritdoc/>
    public IKernels Kernels => _kernels;

    /// <inheritdoc/>
    public string MemorySpace => IDevice.HostSpace;

    /// <inheritdoc/>
    public long ReservedBytes => Interlocked.Read(ref _reservedBytes);

    /// <summary>Cores are not lost; a report from outside is heeded.</summary>
    public DeviceLoss Loss { get; }

    /// <inheritdoc/>
    public Arena CreateArena(string name) =>
        new HostArena($"{Name}/{name}", reservedChanged: bytes => Interlocked.Add(ref _reservedBytes, bytes));

    /// <inheritdoc/>
    public Arena CreateHostArena(string name) => CreateArena(name);

    /// <inheritdoc/>
    public Task SubmitAsync(Action<IKernels> work, WorkPriority priority = default)
    {
        ArgumentNullException.ThrowIfNull(work);
        return Enqueue(new Work<Action<IKernels>>(static (kernels, action) => action(kernels), work), priority);
    }

    /// <inheritdoc/>
    public Task SubmitAsync<TState>(
        Action<IKernels, TState> work, TState state, WorkPriority priority = default)
    {
        ArgumentNullException.ThrowIfNull(work);
        return Enqueue(new Work<TState>(work, state), priority);
    }

    /// <inheritdoc/>
    void IComputeJob.Run()
    {
        _runningThread = Environment.CurrentManagedThreadId;
        while (true)
        {
            Work work;
            lock (_gate)
            {
                work = _queue.Dequeue();
            }

            work.Run(_kernels, Loss);
            lock (_gate)
            {
                if (_queue.Count == 0)
                {
                    _runningThread = 0;
                    _scheduled = false;
                    Monitor.PulseAll(_gate);
                    return;
                }
            }

            // Other devices get their turn; without any, the next work starts at once.
            if (_pool.WaitingJobs > 0)
            {
                _runningThread = 0;
                _pool.Resubmit(this);
                return;
            }
        }
    }

    /// <summary>Waits for the work that was submitted; later submissions are rejected.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            _disposed = true;
            while (_scheduled && _runningThread != Environment.CurrentManagedThreadId)
            {
                Monitor.Wait(_gate);
            }
        }
    }

    private Task Enqueue(Work work, WorkPriority priority)
    {
        if (Loss.ForCall() is { } lost)
        {
            return Task.FromException(lost);
        }

        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            if (!_scheduled)
            {
                _pool.Submit(this);
                _scheduled = true;
            }

            _queue.Enqueue(work, priority);
        }

        return work.Task;
    }

    private abstract class Work() : TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)
    {
        public abstract void Run(IKernels kernels, DeviceLoss loss);
    }

    private sealed class Work<TState>(Action<IKernels, TState> action, TState state) : Work
    {
        public override void Run(IKernels kernels, DeviceLoss loss)
        {
#pragma warning disable CA1031 // The exception is the task's: it reaches whoever awaits the work.
            try
            {
                loss.ThrowIfLost();
                action(kernels, state);
                loss.ThrowIfLost();
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
