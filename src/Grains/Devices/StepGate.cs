namespace Krewe.Grains.Devices;

/// <summary>
/// Lets in the calls of the current attempt at a step and no others. A higher attempt abandons what is under way and
/// begins when the last of it has ended, so that nothing of an abandoned attempt touches the memory of the next.
/// </summary>
/// <param name="owner">Whose gate it is, for messages.</param>
public sealed class StepGate(string owner) : IDisposable
{
    private static readonly TimeSpan DrainDeadline = TimeSpan.FromSeconds(60);

    private readonly Lock _lock = new();
    private CancellationTokenSource _abandoned = new();
    private TaskCompletionSource? _drained;
    private int _running;

    /// <summary>The current attempt; 0 before the first.</summary>
    public long Attempt { get; private set; }

    /// <summary>Calls under way.</summary>
    public int Running => _running;

    /// <summary>A call that was let in; disposing it says that it has ended.</summary>
    /// <param name="gate">The gate.</param>
    /// <param name="abandoned">Cancelled when the attempt is given up.</param>
    public readonly struct Entry(StepGate gate, CancellationToken abandoned) : IDisposable
    {
        /// <summary>Cancelled when the attempt is given up.</summary>
        public CancellationToken Abandoned { get; } = abandoned;

        /// <summary>
        /// Another entry, for what goes on behind the call: valid as long as this one has not been disposed, also where the
        /// attempt has been given up meanwhile, which then ends with the last of them.
        /// </summary>
        public Entry Again() => gate.Again(Abandoned);

        /// <inheritdoc/>
        public void Dispose() => gate.Leave();
    }

    /// <summary>Lets a call in.</summary>
    /// <exception cref="StaleAttemptException">It belongs to another attempt.</exception>
    public Entry Enter(long attempt)
    {
        lock (_lock)
        {
            if (attempt != Attempt)
            {
                throw new StaleAttemptException($"{owner}: a call of attempt {attempt} came during attempt {Attempt}");
            }

            _running++;
            return new(this, _abandoned.Token);
        }
    }

    /// <summary>
    /// Goes over to an attempt. Returns true where it is a new one: everything of the one before has ended.
    /// </summary>
    /// <exception cref="StaleAttemptException">A later attempt was begun already.</exception>
    /// <exception cref="TimeoutException">Calls of the attempt before did not end.</exception>
    public async Task<bool> BeginAsync(long attempt)
    {
        CancellationTokenSource abandoned;
        Task drained = Task.CompletedTask;
        lock (_lock)
        {
            if (attempt < Attempt)
            {
                throw new StaleAttemptException($"{owner}: attempt {attempt} begins after attempt {Attempt}");
            }

            if (attempt == Attempt)
            {
                return false;
            }

            Attempt = attempt;
            abandoned = _abandoned;
            _abandoned = new();
            if (_running > 0)
            {
                _drained ??= new(TaskCreationOptions.RunContinuationsAsynchronously);
                drained = _drained.Task;
            }
        }

        await abandoned.CancelAsync();
        abandoned.Dispose();
        try
        {
            await drained.WaitAsync(DrainDeadline);
        }
        catch (TimeoutException exception)
        {
            throw new TimeoutException(
                $"{owner}: {_running} calls of an abandoned attempt did not end within {DrainDeadline.TotalSeconds:F0} s", exception);
        }

        return true;
    }

    /// <inheritdoc/>
    public void Dispose() => _abandoned.Dispose();

    private Entry Again(CancellationToken abandoned)
    {
        lock (_lock)
        {
            _running++;
            return new(this, abandoned);
        }
    }

    private void Leave()
    {
        lock (_lock)
        {
            if (--_running == 0)
            {
                _drained?.SetResult();
                _drained = null;
            }
        }
    }
}
