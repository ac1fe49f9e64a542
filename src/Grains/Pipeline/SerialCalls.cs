namespace Krewe.Grains.Pipeline;

/// <summary>
/// Calls one after the other, in the order in which they were asked for: each begins when the one before has ended,
/// also if that failed, of which its own caller learns.
/// </summary>
internal sealed class SerialCalls
{
    private readonly Lock _lock = new();
    private Task _last = Task.CompletedTask;

    /// <summary>Makes a call when those asked for before have ended.</summary>
    public Task<T> RunAsync<T>(Func<Task<T>> call)
    {
        lock (_lock)
        {
            Task<T> next = RunAfterAsync(_last, call);
            _last = next;
            return next;
        }
    }

    /// <summary>Makes a call when those asked for before have ended.</summary>
    public Task RunAsync(Func<Task> call) => RunAsync(async () =>
    {
        await call();
        return true;
    });

    private static async Task<T> RunAfterAsync<T>(Task before, Func<Task<T>> call)
    {
        await before.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        return await call();
    }
}
