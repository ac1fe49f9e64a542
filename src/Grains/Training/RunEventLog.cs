using System.Runtime.CompilerServices;

namespace Krewe.Grains.Training;

/// <summary>
/// Events of a run, kept so that a watcher who comes late sees the run from its start, old steps without the experts'
/// loads. Used from one grain's turns only.
/// </summary>
internal sealed class RunEventLog
{
    /// <summary>Events that are kept.</summary>
    internal const int Kept = 4096;

    /// <summary>
    /// Events that are kept with the experts' loads, 120 KB a step of DeepSeek-V3: a run must not fill the memory of the
    /// silo that drives it.
    /// </summary>
    internal const int KeptWithLoads = 64;

    private static readonly Dictionary<int, long[]> NoLoads = [];

    private readonly List<RunEvent> _events = [];
    private long _first;
    private TaskCompletionSource _more = New();
    private bool _ended;
    private bool _closed;

    /// <summary>Forgets everything: a new run begins.</summary>
    public void Clear()
    {
        _first += _events.Count;
        _events.Clear();
        _ended = false;
    }

    /// <summary>Lets the watchers go, without a last event: the run goes on elsewhere.</summary>
    public void Close()
    {
        _closed = true;
        _more.TrySetResult();
    }

    /// <summary>Adds an event and wakes the watchers.</summary>
    public void Add(RunEvent happened)
    {
        _events.Add(happened);
        if (_events.Count > KeptWithLoads && _events[^(KeptWithLoads + 1)] is StepCommitted { Report: { } report } step)
        {
            _events[^(KeptWithLoads + 1)] = step with { Report = report with { Loads = NoLoads } };
        }

        if (_events.Count > Kept)
        {
            int old = _events.Count / 4;
            _events.RemoveRange(0, old);
            _first += old;
        }

        TaskCompletionSource more = _more;
        _more = New();
        more.TrySetResult();
    }

    /// <summary>Adds the last event.</summary>
    public void End(RunEvent happened)
    {
        _ended = true;
        Add(happened);
    }

    /// <summary>The events that are kept, then new ones as they come, up to the last.</summary>
    public async IAsyncEnumerable<RunEvent> ReadAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        for (long next = _first; ;)
        {
            Task more = _more.Task;
            while (next < _first + _events.Count)
            {
                next = Math.Max(next, _first);
                yield return _events[(int)(next++ - _first)];
            }

            if (_ended || _closed)
            {
                yield break;
            }

            await more.WaitAsync(cancellationToken);
        }
    }

    private static TaskCompletionSource New() => new(TaskCreationOptions.RunContinuationsAsynchronously);
}
