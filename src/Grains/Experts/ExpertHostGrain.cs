using Krewe.Grains.Devices;
using Krewe.Grains.Placement;
using Krewe.Model.Kernels;
using Krewe.Model.Layers;
using Krewe.Model.Tensors;
using Krewe.Model.Training;
using Orleans.Concurrency;
using Orleans.Placement;

namespace Krewe.Grains.Experts;

/// <inheritdoc cref="IExpertHostGrain"/>
[GrainType(GrainTypes.Host), DevicePlacement, Reentrant, KeepAlive, Immovable]
public sealed class ExpertHostGrain(DeviceHost host, PlacementPlans plans) : Grain, IExpertHostGrain
{
    private readonly Dictionary<(int Layer, int Expert), IExpertGrain> _grains = [];
    private readonly Dictionary<(int Layer, long Slot), Arena> _received = [];
    private readonly Dictionary<(int Layer, long Slot), ExpertSlice> _slices = [];
    private string _name = "";
    private HostedModel _model = null!;

    /// <inheritdoc/>
    public override Task OnActivateAsync(CancellationToken cancellationToken)
    {
        _name = GrainKeys.ParseHost(this.GetPrimaryKeyString()).Model;
        _model = host.ModelOf(_name);
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public async Task<HostDescription> LoadAsync(ModelSource source)
    {
        // The plan may have been made anew since a model of this name was last here.
        plans.Forget(_name);
        PlacementPlan plan = await plans.GetAsync(_name);
        int silo = Array.IndexOf(plan.Silos, host.Silo);
        await Task.WhenAll(plan.ExpertsOf(silo).Select(e => GrainOf(e.Layer, e.Expert).LoadAsync(source)));
        return new(host.Silo, host.Process, host.Device.Name, host.Device.ReservedBytes);
    }

    /// <inheritdoc/>
    public async Task<TensorParcel> ForwardAsync(ExpertForward request)
    {
        ExpertSlice slice = request.Slice.Open();
        Arena arena = ArenaOf(request.Layer, request.Slot);
        arena.Reset();
        Tensor rows = request.Rows.Open(arena);
        ExpertBatch batch = _model.BatchOf(request.Layer, request.Slot);
        _slices[(request.Layer, request.Slot)] = slice;
        Tensor result = default;
        await RunAsync(request.Layer, slice, (kernels, experts) => result = batch.Forward(kernels, slice, experts, rows));
        return TensorParcel.Of(result, request.Process == host.Process);
    }

    /// <inheritdoc/>
    public async Task<TensorParcel[]> BackwardAsync(ExpertBackward request)
    {
        Tensor gradRows = request.GradRows.Open(ArenaOf(request.Layer, request.Slot));
        ExpertBatch batch = _model.BatchOf(request.Layer, request.Slot);
        ExpertGradients gradients = default;
        await RunAsync(request.Layer, SliceOf(request.Layer, request.Slot), (kernels, _) =>
        {
            gradients = batch.Backward(kernels, gradRows);
            if (request.WeightGradients)
            {
                batch.BackwardWeight(kernels);
            }
        });
        bool sameProcess = request.Process == host.Process;
        return [TensorParcel.Of(gradients.Rows, sameProcess), TensorParcel.Of(gradients.Weights, sameProcess)];
    }

    /// <inheritdoc/>
    public Task BackwardWeightAsync(int layer, long slot, long step)
    {
        ExpertBatch batch = _model.BatchOf(layer, slot);
        return RunAsync(layer, SliceOf(layer, slot), (kernels, _) => batch.BackwardWeight(kernels));
    }

    /// <inheritdoc/>
    public Task ReleaseAsync(long slot)
    {
        _model.Release(slot);
        foreach ((int, long Slot) key in _received.Keys.Where(key => key.Slot == slot).ToArray())
        {
            _received.Remove(key, out Arena? arena);
            arena!.Dispose();
            _slices.Remove(key);
        }

        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public async Task<List<GradientNorm>> GradientNormsAsync()
    {
        var norms = new List<GradientNorm>();
        await RunOnAllAsync((kernels, experts) =>
        {
            foreach (Expert expert in experts)
            {
                Optimizer.Norms(kernels, expert.Parameters, norms);
            }
        });
        return norms;
    }

    /// <inheritdoc/>
    public async Task ApplyAsync(AdamWStep rates)
    {
        if (rates.Step <= _model.AppliedStep)
        {
            return;
        }

        await RunOnAllAsync((kernels, experts) =>
        {
            foreach (Expert expert in experts)
            {
                Optimizer.Apply(kernels, expert.Parameters, rates);
            }
        });
        _model.AppliedStep = rates.Step;
    }

    /// <inheritdoc/>
    public Task ZeroGradientsAsync() => RunOnAllAsync((kernels, experts) =>
    {
        foreach (Expert expert in experts)
        {
            expert.Parameters.ZeroGradients(kernels);
        }
    });

    /// <inheritdoc/>
    public Task<TensorParcel> ReadAsync(string name, ParameterPart part, Guid process)
    {
        (int layer, int index) = PlacementPlan.ExpertOf(name)
            ?? throw new ArgumentException($"'{name}' is no routed expert's parameter");
        Parameter parameter = _model.FindExpert(layer, index)?.Parameters.Find(name)
            ?? throw new ArgumentException($"'{name}' is not on silo '{host.Silo}'");
        return Task.FromResult(TensorParcel.Of(Parts.Of(parameter, part), process == host.Process));
    }

    /// <inheritdoc/>
    public async Task UnloadAsync()
    {
        await Task.WhenAll(_model.Experts.Select(e => GrainOf(e.Layer, e.Index).UnloadAsync()));
        // On the device, behind all work that touches the memory.
        await host.Device.SubmitAsync(_ => host.Unload(_name));
        foreach (Arena arena in _received.Values)
        {
            arena.Dispose();
        }

        _received.Clear();
        _slices.Clear();
        plans.Forget(_name);
        _model = host.ModelOf(_name);
    }

    /// <summary>Announces a launch, lets the slice's expert grains join it, and waits until it is done.</summary>
    private async Task RunAsync(int layer, ExpertSlice slice, Action<IKernels, Expert[]> work)
    {
        JoinedBatch batch = _model.Announce(slice.Experts.Count, work);
        try
        {
            for (int i = 0; i < slice.Experts.Count; i++)
            {
                // Local calls complete in microseconds; one after the other they need no array of tasks.
                await GrainOf(layer, slice.Experts[i]).JoinAsync(batch.Id, slice.Offsets[i + 1] - slice.Offsets[i]);
            }

            await batch.Done;
        }
        finally
        {
            _model.Close(batch);
        }
    }

    private async Task RunOnAllAsync(Action<IKernels, Expert[]> work)
    {
        Expert[] experts = [.. _model.Experts];
        if (experts.Length == 0)
        {
            return;
        }

        JoinedBatch batch = _model.Announce(experts.Length, work);
        try
        {
            await Task.WhenAll(experts.Select(e => GrainOf(e.Layer, e.Index).JoinAsync(batch.Id, 0).AsTask()));
            await batch.Done;
        }
        finally
        {
            _model.Close(batch);
        }
    }

    private IExpertGrain GrainOf(int layer, int expert)
    {
        if (!_grains.TryGetValue((layer, expert), out IExpertGrain? grain))
        {
            grain = GrainFactory.GetGrain<IExpertGrain>(GrainKeys.Expert(_name, layer, expert));
            _grains.Add((layer, expert), grain);
        }

        return grain;
    }

    private ExpertSlice SliceOf(int layer, long slot) => _slices.GetValueOrDefault((layer, slot))
        ?? throw new InvalidOperationException($"no forward of layer {layer}, slot {slot} came before its backward");

    private Arena ArenaOf(int layer, long slot)
    {
        if (!_received.TryGetValue((layer, slot), out Arena? arena))
        {
            arena = host.Device.CreateArena($"{_name}: received rows of layer {layer}, slot {slot}");
            _received.Add((layer, slot), arena);
        }

        return arena;
    }
}
