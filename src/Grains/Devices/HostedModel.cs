using System.Collections.Concurrent;
using Krewe.Model.Kernels;
using Krewe.Model.Layers;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Devices;

/// <summary>The part of one model that lives on one device: experts, stages and their work in progress.</summary>
/// <param name="name">Model or run name.</param>
/// <param name="place">Name of the device's place.</param>
/// <param name="device">The device.</param>
public sealed partial class HostedModel(string name, string place, IDevice device) : IDisposable
{
    private readonly ConcurrentDictionary<(int Layer, int Index), Expert> _experts = new();
    private readonly ConcurrentDictionary<(int Direction, int Stage), HostedStage> _stages = new();
    private readonly ConcurrentDictionary<long, JoinedBatch> _open = new();
    private readonly ConcurrentDictionary<int, CallOrder> _callOrders = new();
    private readonly Lock _lock = new();
    private readonly Dictionary<int, long[]> _tokens = [];
    private long _lastBatch;

    /// <summary>Saved states of a run, this place's and a peer's.</summary>
    internal SnapshotStore Snapshots { get; } = new(device, name);

    /// <summary>Work behind which calls to this silo went on.</summary>
    internal WorkBehind Behind { get; } = new();

    /// <summary>
    /// Whether calls may go on behind their work: the device runs whatever reads its memory in the order of submission.
    /// </summary>
    internal bool GoesOn => !Device.SharesHostMemory();

    /// <summary>Embedding and head, where they are here.</summary>
    internal HostedTables Tables { get; } = new();

    /// <summary>Folder of the run that trains the model here; null where none does.</summary>
    public string? RunFolder { get; set; }

    /// <summary>Model or run name.</summary>
    public string Name { get; } = name;

    /// <summary>Name of the device's place.</summary>
    public string Place { get; } = place;

    /// <summary>The device.</summary>
    public IDevice Device { get; } = device;

    /// <summary>Lets in the calls of the current attempt at a step.</summary>
    public StepGate Gate { get; } = new($"'{name}' on silo '{place}'");

    /// <summary>Waits until the calls that the coordinator made to the rank before this one have begun.</summary>
    internal ValueTask TurnAsync(StepCall call, CancellationToken abandoned) => call.Rank >= 0
        ? _callOrders.GetOrAdd(call.Rank, _ => new()).EnterAsync(call, abandoned)
        : ValueTask.CompletedTask;

    /// <summary>Experts whose weights are here.</summary>
    public ICollection<Expert> Experts => _experts.Values;

    /// <summary>Stages whose weights are here, copies for both directions counted.</summary>
    public IEnumerable<ModelStage> Stages => _stages.Values.Select(hosted => hosted.Stage);

    /// <summary>Parameters of everything that is here, copies that share memory counted once.</summary>
    public IEnumerable<ParameterSet> ParameterSets => _experts.Values.Select(expert => expert.Parameters)
        .Concat(Stages.Select(stage => stage.Parameters).Distinct())
        .Concat(Tables.Owners.Select(owner => owner.Parameters));

    internal ICollection<(int Direction, int Stage)> StageKeys => _stages.Keys;

    /// <summary>Everything here that a step changes, copies that share memory counted once.</summary>
    internal IReadOnlyList<OwnerState> Owners() =>
    [
        .. _experts.Values.Select(OwnerState.Of),
        .. _stages.Values.Select(hosted => hosted.Stage).DistinctBy(stage => stage.Range.Index).Select(OwnerState.Of),
        .. Tables.Owners,
    ];

    /// <summary>The expert, or null before it was loaded.</summary>
    public Expert? FindExpert(int layer, int index) => _experts.GetValueOrDefault((layer, index));

    /// <summary>Keeps an expert.</summary>
    public void Add(Expert expert) => _experts[(expert.Layer, expert.Index)] = expert;

    /// <summary>Frees an expert.</summary>
    public void RemoveExpert(int layer, int index)
    {
        if (_experts.TryRemove((layer, index), out Expert? expert))
        {
            expert.Dispose();
        }
    }

    internal HostedStage? FindStage(int direction, int stage) => _stages.GetValueOrDefault((direction, stage));

    internal void Add(int direction, HostedStage hosted) => _stages[(direction, hosted.Stage.Range.Index)] = hosted;

    /// <summary>Frees a stage.</summary>
    public void RemoveStage(int direction, int stage)
    {
        if (_stages.TryRemove((direction, stage), out HostedStage? hosted))
        {
            hosted.Dispose();
        }
    }

    /// <summary>Counts tokens of a layer whose launches could not say them: the device had planned.</summary>
    /// <param name="layer">The layer, all of whose experts are here.</param>
    /// <param name="load">[E]: tokens of each expert.</param>
    internal void Count(int layer, ReadOnlySpan<int> load)
    {
        lock (_lock)
        {
            if (!_tokens.TryGetValue(layer, out long[]? tokens))
            {
                _tokens.Add(layer, tokens = new long[load.Length]);
            }

            for (int expert = 0; expert < load.Length; expert++)
            {
                tokens[expert] += load[expert];
            }
        }
    }

    /// <summary>Tokens of an expert that were counted so.</summary>
    internal long TokensOf(int layer, int expert)
    {
        lock (_lock)
        {
            return _tokens.TryGetValue(layer, out long[]? tokens) ? tokens[expert] : 0;
        }
    }

    /// <summary>
    /// Opens a step: layers take weight gradients from <paramref name="firstSlot"/> on; where everything is begun anew,
    /// what was kept of other micro-batches is forgotten and every gradient becomes zero.
    /// </summary>
    internal async Task BeginAsync(long firstSlot, bool anew)
    {
        lock (_lock)
        {
            foreach (WeightQueue queue in _queues.Values)
            {
                queue.Reset(firstSlot);
            }

            if (anew)
            {
                foreach (ExpertPass pass in _passes.Values)
                {
                    _idle.Push(pass);
                }

                _passes.Clear();
                Behind.Clear();
            }
        }

        if (!anew || Device.Loss.IsLost)
        {
            return;
        }

        foreach (HostedStage stage in _stages.Values)
        {
            stage.RetireAll();
        }

        ParameterSet[] sets = [.. ParameterSets.Where(set => set.IsTrainable)];
        await Device.SubmitAsync(kernels =>
        {
            foreach (ParameterSet set in sets)
            {
                set.ZeroGradients(kernels);
            }
        });
    }

    /// <summary>
    /// Announces a batch: <paramref name="work"/> runs once when <paramref name="count"/> experts have joined, and
    /// <paramref name="after"/> has ended.
    /// </summary>
    public JoinedBatch Announce(
        int count, Action<IKernels, Expert[]> work, WorkPriority priority = default, Task? after = null)
    {
        var batch = new JoinedBatch(Interlocked.Increment(ref _lastBatch), count, Device, work, priority, after);
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
        lock (_lock)
        {
            foreach ((int Layer, long Slot) key in _passes.Keys.Where(key => key.Slot == slot).ToArray())
            {
                _passes.Remove(key, out ExpertPass? pass);
                pass!.Dispose();
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (ExpertPass pass in _passes.Values.Concat(_idle))
        {
            pass.Dispose();
        }

        foreach (Expert expert in _experts.Values)
        {
            expert.Dispose();
        }

        foreach (HostedStage stage in _stages.Values)
        {
            stage.Dispose();
        }

        Tables.Dispose();
        Gate.Dispose();
        Snapshots.Dispose();
        _passes.Clear();
        _idle.Clear();
        _experts.Clear();
        _stages.Clear();
    }
}
