using Krewe.Model.Layers;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Pipeline;

/// <summary>All silos with experts of a model, as one of its stages sees them.</summary>
internal sealed class GrainExpertFleet : IExpertFleet, IDisposable
{
    private readonly Dictionary<(int Host, int Layer, long Slot), Arena> _received = [];
    private readonly Dictionary<int, ExpertTopology> _topologies;
    private readonly IDevice _device;

    /// <summary>A fleet by the plan.</summary>
    /// <param name="plan">Who holds what.</param>
    /// <param name="device">Device of the stage.</param>
    /// <param name="stageProcess">Process identity of the stage's silo.</param>
    /// <param name="gateways">Gateway of each silo of the plan.</param>
    public GrainExpertFleet(
        PlacementPlan plan, IDevice device, Guid stageProcess, IReadOnlyList<Neighbour<IExpertHostGrain>> gateways)
    {
        _device = device;
        _topologies = plan.SiloOfExpert.Keys.ToDictionary(layer => layer, plan.TopologyOf);
        Hosts = [.. gateways.Select((gateway, host) => (IExpertHost)new GrainExpertHost(
            gateway, stageProcess, (layer, slot) => ArenaOf(host, layer, slot)))];
    }

    /// <inheritdoc/>
    public IReadOnlyList<IExpertHost> Hosts { get; }

    /// <inheritdoc/>
    public ExpertTopology TopologyOf(int layer) => _topologies[layer];

    /// <summary>Frees what was received for a slot.</summary>
    public void Release(long slot)
    {
        foreach ((int, int, long Slot) key in _received.Keys.Where(key => key.Slot == slot).ToArray())
        {
            _received.Remove(key, out Arena? arena);
            arena!.Dispose();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Arena arena in _received.Values)
        {
            arena.Dispose();
        }

        _received.Clear();
    }

    private Arena ArenaOf(int host, int layer, long slot)
    {
        // Called in the stage grain's turns only.
        if (!_received.TryGetValue((host, layer, slot), out Arena? arena))
        {
            arena = _device.CreateArena($"rows from host {host}, layer {layer}, slot {slot}");
            _received.Add((host, layer, slot), arena);
        }

        return arena;
    }
}
