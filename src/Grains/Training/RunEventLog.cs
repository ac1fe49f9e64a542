using System.Runtime.CompilerServices;

namespace Krewe.Grains.Training;

/// <summary>
/// Events of a run, kept so that a watcher who comes late sees the run from its start. Used from one grain's turns
/// only.
/// </summary>
internal sealed class RunEventLog
{
    private readonly List<RunEvent> _events = [];
    private TaskCompletionSource _more = New();
    private bool _ended;

    /// <summary>Forgets everything: a new run begins.</summary>
    public void Clear()
    {
        _events.Clear();
        _ended = false;
    }

    /// <summary>Adds an event and wakes the watchers.</summary>
    public void Add(RunEvent happened)
    {
        _events.Add(happened);
        TaskCompletionSource more = _more;
        _more = New();
        more.SetResult();
    }

    /// <summary>Adds the last event.</summary>
    public void End(RunEvent happened)
    {
        _ended = true;
        Add(happened);
    }

    /// <summary>All events so far, then new ones as they come, up to the last.</summary>
    public async IAsyncEnumerable<RunEvent> ReadAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        for (int next = 0; ;)
        {
            Task more = _more.Task;
            while (next < _events.Count)
            {
                yield return _events[next++];
            }

            if (_ended)
            {
                yield break;
            }

            await more.WaitAsync(cancellationToken);
        }
    }

    private static TaskCompletionSource New() => new(TaskCreationOptions.RunContinuationsAsynchronously);
}
