using Krewe.Model.Tensors;

namespace Krewe.Grains.Devices;

/// <summary>
/// Saved states in a silo's host memory, its own owners' and a peer's: what a run goes back to when a silo dies. Never
/// changed once they are here.
/// </summary>
/// <param name="device">Whose states they are.</param>
/// <param name="name">Run, for the memory report.</param>
internal sealed class SnapshotStore(IDevice device, string name) : IDisposable
{
    private readonly Lock _lock = new();
    private readonly Dictionary<(string Key, int Step), (Arena Arena, Tensor State)> _states = [];
    private readonly Dictionary<int, int> _pinned = [];
    private readonly Dictionary<string, Stack<Arena>> _idle = [];

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

    /// <summary>An arena for a state that will be added: one that a state of the same kind has left, or a new one.</summary>
    public Arena CreateArena(string key)
    {
        lock (_lock)
        {
            return _idle.TryGetValue(KindOf(key), out Stack<Arena>? idle) && idle.Count > 0
                ? idle.Pop()
                : device.CreateHostArena($"{name}: snapshot of {key}");
        }
    }

    /// <summary>Keeps the states of a step while somebody reads them; disposing the result lets them go.</summary>
    public IDisposable Pin(int step)
    {
        lock (_lock)
        {
            _pinned[step] = _pinned.GetValueOrDefault(step) + 1;
        }

        return new Pinned(this, step);
    }

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

    /// <summary>
    /// Drops all states but those of the given steps. Their memory serves the next snapshot; what the last one did not
    /// need, because owners have left this silo, is freed.
    /// </summary>
    public void DropExcept(IReadOnlyCollection<int> steps)
    {
        lock (_lock)
        {
            FreeIdle();
            foreach ((string Key, int Step) key in _states.Keys.Where(key => !steps.Contains(key.Step)).ToArray())
            {
                if (_pinned.ContainsKey(key.Step))
                {
                    // Somebody reads it: it goes with the next drop.
                    continue;
                }

                _states.Remove(key, out (Arena Arena, Tensor State) entry);
                entry.Arena.Reset();
                if (!_idle.TryGetValue(KindOf(key.Key), out Stack<Arena>? idle))
                {
                    _idle.Add(KindOf(key.Key), idle = new());
                }

                idle.Push(entry.Arena);
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_lock)
        {
            foreach ((Arena arena, _) in _states.Values)
            {
                arena.Dispose();
            }

            _states.Clear();
            FreeIdle();
        }
    }

    private void FreeIdle()
    {
        foreach (Arena arena in _idle.Values.SelectMany(idle => idle))
        {
            arena.Dispose();
        }

        _idle.Clear();
    }

    /// <summary>Experts among each other, and the states of a stage, are of one size.</summary>
    private static string KindOf(string key) => key.StartsWith("expert/", StringComparison.Ordinal) ? "expert" : key;

    private void Unpin(int step)
    {
        lock (_lock)
        {
            if (--_pinned[step] == 0)
            {
                _pinned.Remove(step);
            }
        }
    }

    private sealed class Pinned(SnapshotStore store, int step) : IDisposable
    {
        public void Dispose() => store.Unpin(step);
    }
}
