using Krewe.Grains.Devices;
using Krewe.Model.Layers;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Pipeline;

/// <summary>All places with experts of a model, as one of its stages sees them.</summary>
/// <param name="scope">Model or run name.</param>
/// <param name="device">Device of the stage.</param>
/// <param name="post">Sends and opens tensors.</param>
/// <param name="process">Process identity of the stage's silo.</param>
/// <param name="model">What of the model is at the stage's place.</param>
internal sealed class GrainExpertFleet(string scope, IDevice device, TensorPost post, Guid process, HostedModel model)
    : IExpertFleet, IDisposable
{
    private readonly Lock _lock = new();
    private readonly Dictionary<(int Host, int Layer, long Slot), Arena> _received = [];
    private readonly Stack<Arena> _idle = [];
    private Dictionary<int, ExpertTopology> _topologies = [];

    /// <inheritdoc/>
    public IReadOnlyList<IExpertHost> Hosts { get; private set; } = [];

    /// <inheritdoc/>
    public ExpertTopology TopologyOf(int layer) => _topologies[layer];

    /// <inheritdoc/>
    /// <remarks>A device plans for its own place alone, so the experts are here.</remarks>
    public void Count(int layer, ReadOnlySpan<int> load) => model.Count(layer, load);

    /// <summary>Goes over to a plan; not while calls are under way.</summary>
    /// <param name="plan">Who holds what.</param>
    /// <param name="gateways">Gateway of each place of the plan.</param>
    /// <param name="here">Name of the stage's place.</param>
    public void Connect(PlacementPlan plan, IReadOnlyList<Neighbour<IExpertHostGrain>> gateways, string here)
    {
        _topologies = plan.SiloOfExpert.Keys.ToDictionary(layer => layer, plan.TopologyOf);
        Hosts = [.. gateways.Select((gateway, host) => (IExpertHost)new GrainExpertHost(
            gateway, post, scope, process, plan.Silos[host] == here, model, (layer, slot) => ArenaOf(host, layer, slot)))];
    }

    /// <summary>Lets other micro-batches have the memory of what was received for a slot.</summary>
    public void Retire(long slot)
    {
        lock (_lock)
        {
            foreach ((int, int, long Slot) key in _received.Keys.Where(key => key.Slot == slot).ToArray())
            {
                _received.Remove(key, out Arena? arena);
                _idle.Push(arena!);
            }
        }
    }

    /// <summary>Frees what was received for a slot.</summary>
    public void Release(long slot)
    {
        lock (_lock)
        {
            foreach ((int, int, long Slot) key in _received.Keys.Where(key => key.Slot == slot).ToArray())
            {
                _received.Remove(key, out Arena? arena);
                arena!.Dispose();
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Arena arena in _received.Values.Concat(_idle))
        {
            arena.Dispose();
        }

        _received.Clear();
        _idle.Clear();
    }

    private Arena ArenaOf(int host, int layer, long slot)
    {
        lock (_lock)
        {
            if (!_received.TryGetValue((host, layer, slot), out Arena? arena))
            {
                arena = _idle.Count > 0 ? _idle.Pop() : device.CreateArena("rows from expert hosts");
                _received.Add((host, layer, slot), arena);
            }

            return arena;
        }
    }
}
