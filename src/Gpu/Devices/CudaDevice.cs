using System.Collections.Concurrent;
using Krewe.Gpu.Compilation;
using Krewe.Gpu.Driver;
using Krewe.Gpu.Kernels;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Devices;

/// <summary>
/// One GPU. A thread of its own submits the kernels of one work after the other, in the order of a
/// <see cref="WorkQueue{T}"/>, to a stream; a second one waits for them and completes the tasks, so the stream has the
/// next work while the host still reports the last.
/// </summary>
/// <remarks>
/// Tensors lie in device memory. A bad index is found by a kernel, not by the host: the work's task fails with the
/// same <see cref="ArgumentException"/> as on a CPU, once its kernels are done, and none of its kernels that index by
/// data has written after the fault.
/// </remarks>
public sealed partial class CudaDevice : IDevice
{
    /// <summary>Enough to keep the stream busy; more would run background work ahead of what somebody waits for.</summary>
    private const int MaxInFlight = 4;

    /// <summary>How long the threads of a lost device may take to end.</summary>
    private static readonly TimeSpan LostDeadline = TimeSpan.FromSeconds(10);

    private readonly WorkQueue<CudaWork> _waiting = new();
    private readonly BlockingCollection<CudaWork> _running = [];
    private readonly BlockingCollection<CudaSubmission> _free = [];
    private readonly CudaMemoryPool _pool;
    private readonly CudaStream _stream;
    private readonly CudaKernels _kernels;
    private readonly Thread _submitting;
    private readonly Thread _completing;
    private long _reservedBytes;
    private bool _disposed;

    /// <summary>Opens a GPU.</summary>
    /// <param name="index">Number of the device, from 0.</param>
    /// <param name="cache">Where compiled kernels are kept; the user's cache where none is given.</param>
    /// <param name="products">How matrix products are computed where there is more than one way.</param>
    /// <exception cref="CudaException">No driver, no such device, or no NVRTC: one line that says which.</exception>
    public CudaDevice(int index = 0, KernelCache? cache = null, ProductPath products = ProductPath.Fast)
    {
        Context = new(index);
        Name = $"cuda:{index}";
        Loss = new(Name);
        try
        {
            var compiler = new CudaRuntimeCompiler(Context.ComputeCapability);
            _pool = new(Context);
            _stream = new();
            _kernels = new(Context, new(compiler, cache ?? KernelCache.OfThisUser()), _pool, _stream, products, Loss);
            for (int i = 0; i < MaxInFlight; i++)
            {
                _free.Add(new(Context, _stream, Loss));
            }
        }
        catch
        {
            // No compiler, or no memory: what there is goes before the caller hears of it.
            Close();
            throw;
        }

        _submitting = Start("submits", SubmitAll);
        _completing = Start("completes", CompleteAll);
    }

    /// <inheritdoc/>
    public string Name { get; }

    /// <summary>The device's context.</summary>
    public CudaContext Context { get; }

    /// <inheritdoc/>
    public IKernels Kernels => _kernels;

    /// <inheritdoc/>
    public string MemorySpace => Name;

    /// <inheritdoc/>
    public long ReservedBytes => Interlocked.Read(ref _reservedBytes);

    /// <inheritdoc/>
    public long PeakBytes => _pool.PeakBytes;

    /// <inheritdoc/>
    public double BFloat16Rate => CardRates.BFloat16(Context.DeviceName);

    /// <summary>
    /// Whether the card is lost to this process: by a kernel that ran wild, or by a fault of the hardware. Every code
    /// of the driver that says so reports it (<see cref="LostDevice"/>).
    /// </summary>
    public DeviceLoss Loss { get; }

    /// <inheritdoc/>
    public Arena CreateArena(string name) => new CudaArena(
        $"{Name}/{name}", Context, _pool, _stream, Loss, bytes => Interlocked.Add(ref _reservedBytes, bytes));

    /// <inheritdoc/>
    public Arena CreateHostArena(string name) => new PageLockedArena($"{Name}/{name}, on the host", Context, Loss);

    /// <inheritdoc/>
    public Task SubmitAsync(Action<IKernels> work, WorkPriority priority = default)
    {
        ArgumentNullException.ThrowIfNull(work);
        return Enqueue(new CudaWork<Action<IKernels>>(static (kernels, action) => action(kernels), work), priority);
    }

    /// <inheritdoc/>
    public Task SubmitAsync<TState>(
        Action<IKernels, TState> work, TState state, WorkPriority priority = default)
    {
        ArgumentNullException.ThrowIfNull(work);
        return Enqueue(new CudaWork<TState>(work, state), priority);
    }

    /// <inheritdoc/>
    public RepeatedWork Repeat(Action<IKernels> work)
    {
        ArgumentNullException.ThrowIfNull(work);
        return new CudaRepeatedWork(this, _stream, work);
    }

    /// <summary>
    /// Copies a dense tensor between host and device memory, or within one, in the order of submission. The host's
    /// side must stay as it is until the task is done.
    /// </summary>
    /// <exception cref="ArgumentException">The tensors differ in type or count, or have gaps.</exception>
    public Task CopyAsync(Tensor source, Tensor destination)
    {
        if (source.DType != destination.DType || source.Count != destination.Count
            || (!source.IsDense && source.Rows > 1) || (!destination.IsDense && destination.Rows > 1))
        {
            throw new ArgumentException($"copy: expected dense tensors of one size, got {source} to {destination}");
        }

        return SubmitAsync(
            static (_, copy) => copy.Stream.Copy(
                copy.Source.Address, copy.Destination.Address, copy.Source.Count * copy.Source.DType.SizeInBytes()),
            (Stream: _stream, Source: source, Destination: destination));
    }

    /// <summary>
    /// Waits for the work that was submitted; later submissions are rejected. Lets a lost card go in silence.
    /// </summary>
    public void Dispose()
    {
        lock (_waiting)
        {
            if (_disposed)
            {
                return;
            }

            _disposed = true;
            Monitor.Pulse(_waiting);
        }

        // A lost device may keep a thread in a call of the driver, and would keep whoever closes the context: the process's end
        // takes both.
        TimeSpan limit = Loss.IsLost ? LostDeadline : DeviceWait.Deadline;
        if (_submitting.Join(limit) && _completing.Join(limit))
        {
            Close();
        }
    }

    /// <summary>Gives up what the constructor has taken so far.</summary>
    private void Close()
    {
        _ = Context.TrySetCurrent();
        while (_free.TryTake(out CudaSubmission? submission))
        {
            submission.Dispose();
        }

        _kernels?.Dispose();
        _pool?.Dispose();
        _stream?.Dispose();
        Context.Dispose();
        _running.Dispose();
        _free.Dispose();
    }

    private Thread Start(string what, Action loop)
    {
        var thread = new Thread(() =>
        {
            Context.SetCurrent();
            loop();
        })
        {
            Name = $"{Name} {what}",
            IsBackground = true,
        };
        thread.Start();
        return thread;
    }

    private Task Enqueue(CudaWork work, WorkPriority priority)
    {
        if (Loss.ForCall() is { } lost)
        {
            return Task.FromException(lost);
        }

        lock (_waiting)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            _waiting.Enqueue(work, priority);
            Monitor.Pulse(_waiting);
        }

        return work.Task;
    }

    /// <summary>The next work; null when the device is closed and nothing is left.</summary>
    private CudaWork? Next()
    {
        lock (_waiting)
        {
            while (_waiting.Count == 0 && !_disposed)
            {
                Monitor.Wait(_waiting);
            }

            return _waiting.Count > 0 ? _waiting.Dequeue() : null;
        }
    }

    private void SubmitAll()
    {
        while (true)
        {
            // Room first: what is taken from the queue runs next.
            CudaSubmission submission = _free.Take();
            if (Next() is not { } work)
            {
                _free.Add(submission);
                break;
            }

            work.Submission = submission;
            work.Submit(_kernels, Loss);
            _running.Add(work);
        }

        _running.CompleteAdding();
    }

    private void CompleteAll()
    {
        foreach (CudaWork work in _running.GetConsumingEnumerable())
        {
            work.Complete(Loss);
            _free.Add(work.Submission!);
            work.Report();
        }
    }
}
