using Krewe.Grains.Devices;
using Krewe.Grains.Placement;
using Krewe.Model.Configuration;
using Krewe.Model.Generation;
using Krewe.Model.Kernels;
using Krewe.Model.Layers;
using Krewe.Model.Tensors;
using Krewe.Model.Training;
using Orleans.Concurrency;
using Orleans.Placement;

namespace Krewe.Grains.Pipeline;

/// <inheritdoc cref="IPipelineStageGrain"/>
[GrainType(GrainTypes.Stage), DevicePlacement, Reentrant, KeepAlive, Immovable]
public sealed class PipelineStageGrain(DeviceHost host, PlacementPlans plans, ParameterSources sources)
    : Grain, IPipelineStageGrain
{
    private readonly Dictionary<(long Slot, bool Gradients), (long Step, StageActivations Value)> _inbox = [];
    private readonly Dictionary<(long Slot, bool Gradients), Arena> _received = [];
    private string _name = "";
    private int _index;
    private int _applied;
    private ModelStage? _stage;
    private GrainExpertFleet? _fleet;
    private IPipelineStageGrain? _previous;
    private IPipelineStageGrain? _next;
    private Guid _previousProcess;
    private Guid _nextProcess;

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
        (IExpertHostGrain Grain, Guid Process)[] gateways = await Task.WhenAll(plan.Silos.Select(async silo =>
        {
            IExpertHostGrain gateway = GrainFactory.GetGrain<IExpertHostGrain>(GrainKeys.Host(_name, silo));
            HostDescription description = await gateway.LoadAsync(source);
            return (gateway, description.Process);
        }));
        Connect(plan, gateways, stages);
        _stage = host.ModelOf(_name).FindStage(_index);
        if (_stage is null)
        {
            await LoadStageAsync(source, config, new(plan, host.Device, host.Process, gateways), stages);
        }

        return new(host.Silo, host.Process, Stage.Parameters.Count, [.. Stage.MoeLayers]);
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
        if (_next is not null)
        {
            bool sameProcess = _nextProcess == host.Process;
            await _next.AcceptAsync(new(
                slot, step, false, TensorParcel.Of(output.Hidden, sameProcess),
                TensorParcel.Of(output.Embeddings, sameProcess)));
        }

        return new(_next is null ? Stage.Losses(slot) : null, [.. Stage.Loads(slot)]);
    }

    /// <inheritdoc/>
    public async Task BackwardAsync(long slot, long step, bool weightGradients)
    {
        StageActivations gradOutput = _next is null ? default : Take(slot, step, gradients: true);
        StageActivations gradInput = await Stage.BackwardAsync(slot, step, gradOutput, weightGradients);
        if (_previous is not null)
        {
            bool sameProcess = _previousProcess == host.Process;
            await _previous.AcceptAsync(new(
                slot, step, true, TensorParcel.Of(gradInput.Hidden, sameProcess),
                TensorParcel.Of(gradInput.Embeddings, sameProcess)));
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
        if (rates.Step <= _applied)
        {
            return;
        }

        ParameterSet parameters = Stage.Parameters;
        await host.Device.SubmitAsync(kernels => Optimizer.Apply(kernels, parameters, rates));
        _applied = rates.Step;
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
        if (_next is not null)
        {
            await _next.OpenSessionAsync(session, capacity);
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
        (Tensor output, long position) = await Stage.DecodeAsync(session, tokens, hidden.Open(arena));
        if (_next is null)
        {
            return Sampler.Sample(output.Row(0), sampling, position);
        }

        return await _next.DecodeAsync(
            session, tokens, TensorParcel.Of(output, _nextProcess == host.Process), sampling);
    }

    /// <inheritdoc/>
    public async Task ReleaseAsync(long slot)
    {
        await Stage.ReleaseAsync(slot);
        foreach ((long Slot, bool) key in _received.Keys.Where(key => key.Slot == slot).ToArray())
        {
            _received.Remove(key, out Arena? arena);
            arena!.Dispose();
            _inbox.Remove(key);
        }

        if (_next is not null)
        {
            await _next.ReleaseAsync(slot);
        }
    }

    /// <inheritdoc/>
    public Task UnloadAsync()
    {
        host.ModelOf(_name).RemoveStage(_index);
        _stage = null;
        _fleet?.Dispose();
        _fleet = null;
        foreach (Arena arena in _received.Values)
        {
            arena.Dispose();
        }

        _received.Clear();
        _inbox.Clear();
        DeactivateOnIdle();
        return Task.CompletedTask;
    }

    private async Task LoadStageAsync(ModelSource source, ModelConfig config, GrainExpertFleet fleet, int stages)
    {
        StageRange range = StageRange.Partition(config, stages)[_index];
        int positions = source.MaxPositions > 0 ? source.MaxPositions : config.MaxPositionEmbeddings;
        var stage = new ModelStage(config, range, host.Device, fleet, positions);
        try
        {
            await sources.FillAsync(source, stage.Parameters, host.Device);
            foreach ((int layer, Tensor bias) in stage.Biases)
            {
                sources.Open(source).Read(ModelStage.BiasName(layer), bias.Shape, bias.AsSpan<float>());
            }
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

    private void Connect(PlacementPlan plan, (IExpertHostGrain Grain, Guid Process)[] gateways, int stages)
    {
        if (_index > 0)
        {
            _previous = GrainFactory.GetGrain<IPipelineStageGrain>(GrainKeys.Stage(_name, _index - 1));
            _previousProcess = gateways[plan.SiloOfStage[_index - 1]].Process;
        }

        if (_index < stages - 1)
        {
            _next = GrainFactory.GetGrain<IPipelineStageGrain>(GrainKeys.Stage(_name, _index + 1));
            _nextProcess = gateways[plan.SiloOfStage[_index + 1]].Process;
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
