namespace Krewe.Grains.Devices;

/// <summary>
/// The order in which one layer's experts add their weight gradients: by slot, however the directions of the pipeline
/// race (docs/decisions/0006).
/// </summary>
internal sealed class WeightQueue
{
    private readonly SortedDictionary<long, ExpertPass?> _ready = [];
    private bool _draining;

    /// <summary>The slot whose turn it is.</summary>
    public long Next { get; private set; }

    /// <summary>Slots that were asked for and have not had their turn.</summary>
    public int Waiting => _ready.Count;

    /// <summary>Starts anew from a slot.</summary>
    public void Reset(long first)
    {
        _ready.Clear();
        Next = first;
        _draining = false;
    }

    /// <summary>Notes that a slot is ready, with its activations or with nothing to add.</summary>
    /// <returns>True where the caller must now take turns until there are none.</returns>
    public bool Add(long slot, ExpertPass? pass)
    {
        if (slot < Next || !_ready.TryAdd(slot, pass))
        {
            throw new InvalidOperationException($"the weight gradients of slot {slot} were asked for twice");
        }

        if (_draining)
        {
            return false;
        }

        _draining = true;
        return true;
    }

    /// <summary>Takes the next turn, if it has come.</summary>
    public bool TryTake(out ExpertPass? pass)
    {
        if (_ready.Remove(Next, out pass))
        {
            Next++;
            return true;
        }

        _draining = false;
        return false;
    }
}
