namespace Krewe.Model.Tensors;

/// <summary>
/// The order of a device's work. Normal work goes by turn, within a turn in the order of submission. Background work runs
/// behind everything that was submitted before it, and lets normal work that was submitted later pass, but never more
/// than <see cref="MaxOvertaking"/> times in a row, so that it cannot starve.
/// </summary>
/// <remarks>
/// Two pieces of background work never change places: sums that it accumulates keep their order, and with it their bits
/// (docs/decisions/0001). Normal work accumulates nothing across operations. Not thread-safe.
/// </remarks>
/// <typeparam name="T">A piece of work.</typeparam>
public sealed class WorkQueue<T>
{
    /// <summary>Normal work that may pass the oldest background work.</summary>
    public const int MaxOvertaking = 1024;

    private readonly PriorityQueue<T, (int Turn, long Number)> _normal = new();
    private readonly Queue<(long Number, T Work)> _background = new();
    private long _last;
    private int _overtaking;

    /// <summary>Pieces that wait.</summary>
    public int Count => _normal.Count + _background.Count;

    /// <summary>Adds a piece.</summary>
    public void Enqueue(T work, WorkPriority priority)
    {
        if (priority.IsBackground)
        {
            _background.Enqueue((++_last, work));
        }
        else
        {
            _normal.Enqueue(work, (priority.Turn, ++_last));
        }
    }

    /// <summary>Takes the piece whose turn it is.</summary>
    /// <exception cref="InvalidOperationException">None waits.</exception>
    public T Dequeue()
    {
        bool passes = _normal.TryPeek(out _, out (int, long Number) first) && _background.Count > 0
            && _background.Peek().Number < first.Number;
        if (_normal.Count == 0 || (passes && _overtaking >= MaxOvertaking && !OlderWaits(_background.Peek().Number)))
        {
            _overtaking = 0;
            return _background.Dequeue().Work;
        }

        _overtaking += passes ? 1 : 0;
        return _normal.Dequeue();
    }

    /// <summary>Whether normal work of a high turn waits that was submitted before a piece of background work.</summary>
    private bool OlderWaits(long number)
    {
        foreach ((_, (_, long waiting)) in _normal.UnorderedItems)
        {
            if (waiting < number)
            {
                return true;
            }
        }

        return false;
    }
}
