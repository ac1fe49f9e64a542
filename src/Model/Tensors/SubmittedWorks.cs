using Krewe.Model.Kernels;

namespace Krewe.Model.Tensors;

/// <summary>
/// Works of one operation, each submitted behind the one before. The operation may go on when they were launched, that is
/// when the device's thread has called their kernels: whatever is submitted from then on runs behind them, and what they
/// left in fields and arenas is there. How they ended is asked later (<see cref="DoneAsync"/>), and must be asked.
/// </summary>
/// <remarks>Not thread-safe: one operation, one call after the other.</remarks>
/// <param name="device">Where they run.</param>
public sealed class SubmittedWorks(IDevice device)
{
    private readonly List<Task> _launched = [];
    private readonly List<Task> _done = [];

    /// <summary>Submits a work behind the others of its priority.</summary>
    public void Submit(Action<IKernels> work, WorkPriority priority = default)
    {
        (Task launched, Task done) = device.Launch(work, priority);
        _launched.Add(launched);
        _done.Add(done);
    }

    /// <summary>
    /// Runs an operation that submits here. Where it fails, that is thrown once all that it has submitted has ended: nobody
    /// writes to the operation's memory when its caller goes on.
    /// </summary>
    public async Task RunAsync(Func<Task> operation)
    {
        try
        {
            await operation();
        }
        catch
        {
            await EndedAsync();
            throw;
        }
    }

    /// <summary>
    /// Completes when all have been launched. Where one could not be, not before the others have ended.
    /// </summary>
    public async Task LaunchedAsync()
    {
        try
        {
            await Task.WhenAll(_launched);
            _launched.Clear();
        }
        catch
        {
            await EndedAsync();
            throw;
        }
    }

    /// <summary>Completes when all are done, and forgets them; throws what the first that failed has thrown.</summary>
    public async Task DoneAsync()
    {
        Task[] done = [.. _done];
        _launched.Clear();
        _done.Clear();
        await Task.WhenAll(done);
    }

    private async Task EndedAsync() => await DoneAsync()
        .ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
}
