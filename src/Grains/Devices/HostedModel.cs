using System.Collections.Concurrent;
using Krewe.Model.Kernels;
using Krewe.Model.Layers;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Devices;

/// <summary>The part of one model that lives on one device: experts, stages and their work in progress.</summary>
/// <param name="name">Model or run name.</param>
/// <param name="device">The device.</param>
public sealed class HostedModel(string name, IDevice device) : IDisposable
{
    private readonly ConcurrentDictionary<(int Layer, int Index), Expert> _experts = new();
    private readonly ConcurrentDictionary<(int Layer, long Slot), ExpertBatch> _batches = new();
    private readonly ConcurrentDictionary<long, JoinedBatch> _open = new();
    private readonly ConcurrentDictionary<int, ModelStage> _stages = new();
    private long _lastBatch;

    /// <summary>Model or run name.</summary>
    public string Name { get; } = name;

    /// <summary>The device.</summary>
    public IDevice Device { get; } = device;

    /// <summary>Experts whose weights are here.</summary>
    public ICollection<Expert> Experts => _experts.Values;

    /// <summary>Stages whose weights are here.</summary>
    public ICollection<ModelStage> Stages => _stages.Values;

    /// <summary>The last optimizer step that was applied to the experts here; 0 for none.</summary>
    public int AppliedStep { get; set; }

    /// <summary>The expert, or null before it was loaded.</summary>
    public Expert? FindExpert(int layer, int index) => _experts.GetValueOrDefault((layer, index));

    /// <summary>Keeps an expert.</summary>
    public void Add(Expert expert) => _experts[(expert.Layer, expert.Index)] = expert;

    /// <summary>The stage, or null before it was loaded.</summary>
    public ModelStage? FindStage(int index) => _stages.GetValueOrDefault(index);

    /// <summary>Keeps a stage.</summary>
    public void Add(ModelStage stage) => _stages[stage.Range.Index] = stage;

    /// <summary>Frees a stage.</summary>
    public void RemoveStage(int index)
    {
        if (_stages.TryRemove(index, out ModelStage? stage))
        {
            stage.Dispose();
        }
    }

    /// <summary>The activations of the experts here for one layer and slot.</summary>
    public ExpertBatch BatchOf(int layer, long slot) => _batches.GetOrAdd(
        (layer, slot), key => new(Device, $"{Name}: experts of layer {key.Layer}, slot {key.Slot}"));

    /// <summary>
    /// Announces a batch: <paramref name="work"/> runs once when <paramref name="count"/> experts have joined.
    /// </summary>
    public JoinedBatch Announce(int count, Action<IKernels, Expert[]> work)
    {
        var batch = new JoinedBatch(Interlocked.Increment(ref _lastBatch), count, Device, work);
        _open[batch.Id] = batch;
        return batch;
    }

    /// <summary>An expert joins a batch.</summary>
    /// <exception cref="InvalidOperationException">The batch is not open, or the expert has no weights
    /// here.</exception>
    public void Join(long batch, int layer, int index)
    {
        Expert expert = FindExpert(layer, index)
            ?? throw new InvalidOperationException($"expert {layer}/{index} of '{Name}' has no weights on {Device.Name}");
        if (!_open.TryGetValue(batch, out JoinedBatch? open))
        {
            throw new InvalidOperationException($"batch {batch} of '{Name}' is not open on {Device.Name}");
        }

        open.Join(expert);
    }

    /// <summary>Forgets a batch, done or failed.</summary>
    public void Close(JoinedBatch batch) => _open.TryRemove(batch.Id, out _);

    /// <summary>Frees the activations of a slot.</summary>
    public void Release(long slot)
    {
        foreach ((int Layer, long Slot) key in _batches.Keys.Where(key => key.Slot == slot))
        {
            if (_batches.TryRemove(key, out ExpertBatch? batch))
            {
                batch.Dispose();
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (ExpertBatch batch in _batches.Values)
        {
            batch.Dispose();
        }

        foreach (Expert expert in _experts.Values)
        {
            expert.Dispose();
        }

        foreach (ModelStage stage in _stages.Values)
        {
            stage.Dispose();
        }

        _batches.Clear();
        _experts.Clear();
        _stages.Clear();
    }
}
