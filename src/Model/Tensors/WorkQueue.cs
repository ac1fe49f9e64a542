namespace Krewe.Model.Tensors;

/// <summary>
/// The order of a device's work. Within a priority it is the order of submission. Background work runs behind everything
/// that was submitted before it, and lets normal work that was submitted later pass, but never more than
/// <see cref="MaxOvertaking"/> times in a row, so that it cannot starve.
/// </summary>
/// <remarks>
/// Two pieces of background work never change places, and neither do two normal ones: sums that are accumulated by work
/// of one priority keep their order, and with it their bits (docs/decisions/0001). Not thread-safe.
/// </remarks>
/// <typeparam name="T">A piece of work.</typeparam>
public sealed class WorkQueue<T>
{
    /// <summary>Normal work that may pass the oldest background work.</summary>
    public const int MaxOvertaking = 1024;

    private readonly Queue<(long Number, T Work)> _normal = new();
    private readonly Queue<(long Number, T Work)> _background = new();
    private long _last;
    private int _overtaking;

    /// <summary>Pieces that wait.</summary>
    public int Count => _normal.Count + _background.Count;

    /// <summary>Adds a piece.</summary>
    public void Enqueue(T work, WorkPriority priority) =>
        (priority == WorkPriority.Background ? _background : _normal).Enqueue((++_last, work));

    /// <summary>Takes the piece whose turn it is.</summary>
    /// <exception cref="InvalidOperationException">None waits.</exception>
    public T Dequeue()
    {
        bool passes = _normal.Count > 0 && _background.Count > 0
            && _background.Peek().Number < _normal.Peek().Number;
        if (_normal.Count == 0 || (passes && _overtaking == MaxOvertaking))
        {
            _overtaking = 0;
            return _background.Dequeue().Work;
        }

        _overtaking += passes ? 1 : 0;
        return _normal.Dequeue().Work;
    }
}
