using Krewe.Grains.Devices;
using Krewe.Grains.Placement;
using Krewe.Model.Configuration;
using Krewe.Model.Generation;
using Krewe.Model.Kernels;
using Krewe.Model.Layers;
using Krewe.Model.Tensors;
using Krewe.Model.Training;
using Microsoft.Extensions.Options;
using Orleans.Concurrency;
using Orleans.Configuration;
using Orleans.Placement;

namespace Krewe.Grains.Pipeline;

/// <inheritdoc cref="IPipelineStageGrain"/>
[GrainType(GrainTypes.Stage), DevicePlacement, Reentrant, KeepAlive, Immovable]
public sealed class PipelineStageGrain(
    DeviceHost host, PlacementPlans plans, ParameterSources sources, IOptions<ClusterOptions> cluster)
    : Grain, IPipelineStageGrain
{
    private readonly Dictionary<(long Slot, bool Gradients), (long Step, StageActivations Value)> _inbox = [];
    private readonly Dictionary<(long Slot, bool Gradients), Arena> _received = [];
    private string _name = "";
    private int _index;
    private ModelStage? _stage;
    private GrainExpertFleet? _fleet;
    private Neighbour<IPipelineStageGrain>? _previous;
    private Neighbour<IPipelineStageGrain>? _next;

    private ModelStage Stage => _stage
        ?? throw new InvalidOperationException($"stage {_index} of '{_name}' is not loaded on silo '{host.Silo}'");

    /// <inheritdoc/>
    public override Task OnActivateAsync(CancellationToken cancellationToken)
    {
        (_name, _index) = GrainKeys.ParseStage(this.GetPrimaryKeyString());
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public async Task<StageDescription> LoadAsync(ModelSource source)
    {
        ModelConfig config = ModelConfig.Parse(source.ConfigJson, "the load request");
        PlacementPlan plan = await plans.GetAsync(_name);
        int stages = plan.SiloOfStage.Length;
        Neighbour<IExpertHostGrain>[] gateways = await Task.WhenAll(plan.Silos.Select(async silo =>
        {
            string key = GrainKeys.Host(_name, silo);
            HostDescription description = await GrainFactory.GetGrain<IExpertHostGrain>(key).LoadAsync(source);
            return Neighbour<IExpertHostGrain>.Reach(
                GrainFactory, cluster.Value.ClusterId, host.Silo, silo, description.Process, key);
        }));
        _previous = _index > 0 ? StageAt(_index - 1) : null;
        _next = _index < stages - 1 ? StageAt(_index + 1) : null;
        _stage = host.ModelOf(_name).FindStage(_index);
        if (_stage is null)
        {
            await LoadStageAsync(source, config, new(plan, host.Device, host.Process, gateways), stages);
        }

        return new(host.Silo, host.Process, Stage.Parameters.Count, [.. Stage.MoeLayers]);

        Neighbour<IPipelineStageGrain> StageAt(int stage)
        {
            int ordinal = plan.SiloOfStage[stage];
            return Neighbour<IPipelineStageGrain>.Reach(
                GrainFactory, cluster.Value.ClusterId, host.Silo, plan.Silos[ordinal], gateways[ordinal].Process,
                GrainKeys.Stage(_name, stage));
        }
    }

    /// <inheritdoc/>
    public Task AcceptAsync(StageDelivery delivery)
    {
        var key = (delivery.Slot, delivery.Gradients);
        if (!_received.TryGetValue(key, out Arena? arena))
        {
            arena = host.Device.CreateArena($"{_name}: deliveries to stage {_index}, slot {delivery.Slot}");
            _received.Add(key, arena);
        }

        arena.Reset();
        _inbox[key] = (delivery.Step, new(delivery.Hidden.Open(arena), delivery.Embeddings.Open(arena)));
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public async Task<StageReport> ForwardAsync(long slot, long step, MicroBatch batch, ForwardOptions options)
    {
        StageActivations input = _previous is null ? default : Take(slot, step, gradients: false);
        StageActivations output = await Stage.ForwardAsync(slot, step, batch, input, options);
        if (_next is { } next)
        {
            await DeliverAsync(next, slot, step, gradients: false, output);
        }

        return new(_next is null ? Stage.Losses(slot) : null, [.. Stage.Loads(slot)]);
    }

    /// <inheritdoc/>
    public async Task BackwardAsync(long slot, long step, bool weightGradients)
    {
        StageActivations gradOutput = _next is null ? default : Take(slot, step, gradients: true);
        StageActivations gradInput = await Stage.BackwardAsync(slot, step, gradOutput, weightGradients);
        if (_previous is { } previous)
        {
            await DeliverAsync(previous, slot, step, gradients: true, gradInput);
        }
    }

    /// <inheritdoc/>
    public Task BackwardWeightAsync(long slot, long step) => Stage.BackwardWeightAsync(slot, step);

    /// <inheritdoc/>
    public async Task<List<GradientNorm>> GradientNormsAsync()
    {
        var norms = new List<GradientNorm>();
        ParameterSet parameters = Stage.Parameters;
        await host.Device.SubmitAsync(kernels => Optimizer.Norms(kernels, parameters, norms));
        return norms;
    }

    /// <inheritdoc/>
    public async Task ApplyAsync(AdamWStep rates)
    {
        if (rates.Step <= Stage.AppliedStep)
        {
            return;
        }

        ParameterSet parameters = Stage.Parameters;
        await host.Device.SubmitAsync(kernels => Optimizer.Apply(kernels, parameters, rates));
        Stage.AppliedStep = rates.Step;
    }

    /// <inheritdoc/>
    public Task ZeroGradientsAsync() => host.Device.SubmitAsync(Stage.Parameters.ZeroGradients);

    /// <inheritdoc/>
    public Task SetBiasAsync(int layer, float[] bias)
    {
        Stage.SetBias(layer, bias);
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public Task<TensorParcel> ReadParameterAsync(string name, ParameterPart part, Guid process)
    {
        Tensor tensor = part == ParameterPart.Value ? Stage.FindBias(name) : default;
        if (tensor.IsEmpty)
        {
            tensor = Parts.Of(
                Stage.Parameters.Find(name)
                    ?? throw new ArgumentException($"stage {_index} of '{_name}' has no parameter '{name}'"),
                part);
        }

        return Task.FromResult(TensorParcel.Of(tensor, process == host.Process));
    }

    /// <inheritdoc/>
    public Task<TensorParcel> ReadActivationAsync(long slot, string name, Guid process) =>
        Task.FromResult(TensorParcel.Of(Stage.Activation(slot, name), process == host.Process));

    /// <inheritdoc/>
    public async Task OpenSessionAsync(long session, int capacity)
    {
        Stage.OpenSession(session, capacity);
        if (_next is { } next)
        {
            await next.CallAsync(grain => grain.OpenSessionAsync(session, capacity));
        }
    }

    /// <inheritdoc/>
    public async Task<int> DecodeAsync(long session, int[] tokens, TensorParcel hidden, SamplingOptions sampling)
    {
        if (!_received.TryGetValue((session, false), out Arena? arena))
        {
            arena = host.Device.CreateArena($"{_name}: session {session} on stage {_index}");
            _received.Add((session, false), arena);
        }

        arena.Reset();
        DecodeResult result = await Stage.DecodeAsync(session, tokens, hidden.Open(arena), sampling);
        if (_next is not { } next)
        {
            return result.Token;
        }

        TensorParcel parcel = TensorParcel.Of(result.Hidden, next.Process == host.Process);
        try
        {
            return await next.CallAsync(grain => grain.DecodeAsync(session, tokens, parcel, sampling));
        }
        catch
        {
            parcel.Withdraw();
            throw;
        }
    }

    /// <inheritdoc/>
    public async Task ReleaseAsync(long slot)
    {
        await Stage.ReleaseAsync(slot);
        _fleet?.Release(slot);
        foreach ((long Slot, bool) key in _received.Keys.Where(key => key.Slot == slot).ToArray())
        {
            _received.Remove(key, out Arena? arena);
            arena!.Dispose();
            _inbox.Remove(key);
        }

        if (_next is { } next)
        {
            await next.CallAsync(grain => grain.ReleaseAsync(slot));
        }
    }

    /// <inheritdoc/>
    public async Task UnloadAsync()
    {
        // On the device, behind all work that touches the memory.
        await host.Device.SubmitAsync(_ => host.ModelOf(_name).RemoveStage(_index));
        plans.Forget(_name);
        _stage = null;
        _fleet?.Dispose();
        _fleet = null;
        foreach (Arena arena in _received.Values)
        {
            arena.Dispose();
        }

        _received.Clear();
        _inbox.Clear();
        // A new plan may put the stage elsewhere.
        DeactivateOnIdle();
    }

    private async Task LoadStageAsync(ModelSource source, ModelConfig config, GrainExpertFleet fleet, int stages)
    {
        StageRange range = StageRange.Partition(config, stages)[_index];
        int positions = source.MaxPositions > 0 ? source.MaxPositions : config.MaxPositionEmbeddings;
        var stage = new ModelStage(config, range, host.Device, fleet, positions);
        try
        {
            await sources.FillAsync(
                source, stage.Parameters, host.Device,
                stage.Biases.ToDictionary(bias => ModelStage.BiasName(bias.Key), bias => bias.Value));
        }
        catch
        {
            stage.Dispose();
            fleet.Dispose();
            throw;
        }

        _fleet = fleet;
        _stage = stage;
        host.ModelOf(_name).Add(stage);
    }

    private async Task DeliverAsync(
        Neighbour<IPipelineStageGrain> neighbour, long slot, long step, bool gradients, StageActivations value)
    {
        bool sameProcess = neighbour.Process == host.Process;
        var delivery = new StageDelivery(
            slot, step, gradients, TensorParcel.Of(value.Hidden, sameProcess),
            TensorParcel.Of(value.Embeddings, sameProcess));
        try
        {
            await neighbour.CallAsync(grain => grain.AcceptAsync(delivery));
        }
        catch
        {
            delivery.Hidden.Withdraw();
            delivery.Embeddings.Withdraw();
            throw;
        }
    }

    private StageActivations Take(long slot, long step, bool gradients)
    {
        if (_inbox.Remove((slot, gradients), out (long Step, StageActivations Value) delivery) && delivery.Step == step)
        {
            return delivery.Value;
        }

        string what = gradients ? "gradients" : "activations";
        throw new InvalidOperationException(
            $"stage {_index} of '{_name}' has no {what} of step {step}, slot {slot} from its neighbour");
    }
}
