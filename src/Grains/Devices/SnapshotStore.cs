using Krewe.Model.Tensors;

namespace Krewe.Grains.Devices;

/// <summary>
/// Saved states in a silo's memory, its own owners' and a peer's: what a run goes back to when a silo dies. Never
/// changed once they are here.
/// </summary>
/// <param name="device">Where they live.</param>
/// <param name="name">Run, for the memory report.</param>
internal sealed class SnapshotStore(IDevice device, string name) : IDisposable
{
    private readonly Lock _lock = new();
    private readonly Dictionary<(string Key, int Step), (Arena Arena, Tensor State)> _states = [];

    /// <summary>Bytes of all states.</summary>
    public long Bytes
    {
        get
        {
            lock (_lock)
            {
                return _states.Values.Sum(entry => entry.Arena.ReservedBytes);
            }
        }
    }

    /// <summary>An arena for a state that will be added.</summary>
    public Arena CreateArena(string key, int step) => device.CreateArena($"{name}: snapshot of {key} at step {step}");

    /// <summary>Keeps a state; a second one of the same owner and step is dropped.</summary>
    public void Add(string key, int step, Arena arena, Tensor state)
    {
        lock (_lock)
        {
            if (_states.TryAdd((key, step), (arena, state)))
            {
                return;
            }
        }

        arena.Dispose();
    }

    /// <summary>The state of an owner at a step, or empty.</summary>
    public Tensor Find(string key, int step)
    {
        lock (_lock)
        {
            return _states.GetValueOrDefault((key, step)).State;
        }
    }

    /// <summary>Keys of the states of a step.</summary>
    public IReadOnlyList<string> KeysOf(int step)
    {
        lock (_lock)
        {
            return [.. _states.Keys.Where(key => key.Step == step).Select(key => key.Key)];
        }
    }

    /// <summary>Frees all states but those of the given steps.</summary>
    public void DropExcept(IReadOnlyCollection<int> steps)
    {
        lock (_lock)
        {
            foreach ((string, int Step) key in _states.Keys.Where(key => !steps.Contains(key.Step)).ToArray())
            {
                _states.Remove(key, out (Arena Arena, Tensor State) entry);
                entry.Arena.Dispose();
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose() => DropExcept([]);
}
