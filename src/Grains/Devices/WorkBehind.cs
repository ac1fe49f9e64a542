namespace Krewe.Grains.Devices;

/// <summary>
/// Work of a device behind which the calls that submitted it went on: the device runs what comes later behind it, so only how
/// it ended is left to be asked, before a step is committed. Its attempt has not ended before it has.
/// </summary>
internal sealed class WorkBehind
{
    private readonly Lock _lock = new();
    private readonly List<Task> _works = [];

    /// <summary>Keeps work.</summary>
    /// <param name="done">Completes when the device is through with it.</param>
    /// <param name="entry">Lets the attempt end then.</param>
    public void Add(Task done, StepGate.Entry entry)
    {
        Task ended = EndAsync(done, entry);
        lock (_lock)
        {
            _works.RemoveAll(work => work.IsCompletedSuccessfully);
            _works.Add(ended);
        }
    }

    /// <summary>Completes when all of it has ended, and forgets it; throws what it has thrown.</summary>
    public Task EndedAsync()
    {
        lock (_lock)
        {
            Task[] works = [.. _works];
            _works.Clear();
            return Task.WhenAll(works);
        }
    }

    /// <summary>Forgets work of an attempt that was given up.</summary>
    public void Clear()
    {
        lock (_lock)
        {
            _works.Clear();
        }
    }

    private static async Task EndAsync(Task done, StepGate.Entry entry)
    {
        using (entry)
        {
            await done;
        }
    }
}
