using Krewe.Model.Configuration;
using Krewe.Model.Kernels;
using Krewe.Model.Layers;
using Krewe.Model.Training;

namespace Krewe.Grains.Training;

/// <summary>
/// A model whose stages and experts are grains, as a trainer and a check see it. It carries only control: tensors go
/// from silo to silo, and here only where a parameter or an activation is asked for.
/// </summary>
public sealed class ClusterModel : IInspectable, IAsyncDisposable
{
    private readonly IGrainFactory _grains;
    private readonly IPipelineStageGrain[] _stages;
    private readonly IPipelineStageGrain[] _mirrors;
    private readonly PipelineLayout _layout;
    private readonly IExpertHostGrain[] _hosts;
    private readonly PlacementPlan _plan;
    private readonly Dictionary<int, int> _stageOfLayer;
    private readonly Guid _process;

    private ClusterModel(
        IGrainFactory grains, string name, ModelConfig config, PipelineLayout layout, PlacementPlan plan,
        StageDescription[] descriptions, Guid process)
    {
        _grains = grains;
        Name = name;
        Config = config;
        _plan = plan;
        _layout = layout;
        _stages = StagesOf(grains, name, plan, 0);
        _mirrors = plan.Directions == 2 ? StagesOf(grains, name, plan, 1) : [];
        _process = process;
        _hosts = [.. plan.Silos.Select(silo => grains.GetGrain<IExpertHostGrain>(GrainKeys.Host(name, silo)))];
        _stageOfLayer = descriptions.SelectMany((description, stage) => description.MoeLayers.Select(layer => (layer, stage)))
            .ToDictionary(pair => pair.layer, pair => pair.stage);
        ParametersOfStages = descriptions.Sum(description => description.Parameters);
    }

    /// <summary>Model or run name.</summary>
    public string Name { get; }

    /// <summary>The model.</summary>
    public ModelConfig Config { get; }

    /// <summary>Number of stages.</summary>
    public int Stages => _stages.Length;

    /// <summary>Number of the attempt that calls belong to; every silo must have begun it.</summary>
    public long Attempt { get; private set; }

    /// <summary>Who holds what.</summary>
    public PlacementPlan Plan => _plan;

    /// <summary>Parameters of all stages, the routed experts' excluded.</summary>
    public long ParametersOfStages { get; }

    /// <summary>Plans the placement and loads every stage and expert, the stages in line.</summary>
    /// <param name="grains">The cluster.</param>
    /// <param name="name">Model or run name.</param>
    /// <param name="source">Where the parameters come from.</param>
    /// <param name="silos">Names of the silos that take part.</param>
    /// <param name="stages">Number of pipeline stages.</param>
    /// <param name="process">Process identity for reading tensors by reference; the default is this process.</param>
    public static Task<ClusterModel> CreateAsync(
        IGrainFactory grains, string name, ModelSource source, string[] silos, int stages, Guid? process = null) =>
        CreateAsync(grains, name, source, silos, PipelineLayout.Sequential(stages), process);

    /// <summary>Plans the placement and loads every stage and expert.</summary>
    /// <param name="grains">The cluster.</param>
    /// <param name="name">Model or run name.</param>
    /// <param name="source">Where the parameters come from.</param>
    /// <param name="silos">Names of the silos that take part.</param>
    /// <param name="layout">Ranks and schedule of the pipeline.</param>
    /// <param name="process">Process identity for reading tensors by reference; the default is this process.</param>
    public static async Task<ClusterModel> CreateAsync(
        IGrainFactory grains, string name, ModelSource source, string[] silos, PipelineLayout layout, Guid? process = null)
    {
        if (!GrainKeys.IsName(name))
        {
            throw new Model.KreweException($"'{name}' cannot name a model or run: use a name without '/', '\\' and '@'");
        }

        ModelConfig config = ModelConfig.Parse(source.ConfigJson, "the load request");
        IExpertPlacementGrain placement = grains.GetGrain<IExpertPlacementGrain>(name);
        if (await placement.FindAsync() is { } old)
        {
            // A model of this name is loaded, or was left half loaded: the new one takes its place.
            await UnloadAsync(grains, name, old);
        }

        TensorPeer[] peers = await Task.WhenAll(silos.Select(silo => grains.GetGrain<IDeviceGrain>(silo).PeerAsync()));
        PlacementPlan plan = await placement.CreateAsync(source.ConfigJson, peers, layout);
        await Task.WhenAll(silos.Select(silo => grains.GetGrain<IDeviceGrain>(silo).UsePlanAsync(name, plan)));
        StageDescription[] descriptions = await LoadAsync(grains, name, source, plan);
        var model = new ClusterModel(
            grains, name, config, layout, plan, descriptions, process ?? ProcessExchange.ProcessId);
        await model.ResetRoutersAsync();
        return model;
    }

    /// <summary>Opens a step on every silo.</summary>
    /// <param name="step">Step number.</param>
    /// <param name="attempt">Attempt; a higher one than before gives up all that is under way.</param>
    /// <param name="firstSlot">First micro-batch of the step.</param>
    public async Task<IReadOnlyList<SiloReadiness>> BeginAsync(long step, long attempt, long firstSlot = 0)
    {
        Attempt = attempt;
        return await Task.WhenAll(_hosts.Select(host => host.BeginAsync(new(step, attempt, firstSlot))));
    }

    /// <inheritdoc/>
    public async Task<IReadOnlyList<MicroBatchReport>> RunStepAsync(
        long step, IReadOnlyList<MicroBatch> batch, ForwardOptions options)
    {
        await BeginAsync(step, Attempt);
        StepOutcome outcome = await _grains.GetGrain<IDualPipeCoordinatorGrain>(Name).RunStepAsync(new()
        {
            Step = step,
            Attempt = Attempt,
            Layout = _layout,
            Plan = _plan,
            Batch = [.. batch],
            Options = options,
        });
        return [.. outcome.Losses.Select((losses, slot) => new MicroBatchReport(losses, outcome.Loads[slot]))];
    }

    /// <inheritdoc/>
    public async Task<MicroBatchReport> RunAsync(long slot, long step, MicroBatch batch, ForwardOptions options)
    {
        MicroBatchLosses? losses = null;
        var loads = new List<LayerLoad>();
        var call = new StepCall(slot, step, Attempt);
        if (options.Mode != ForwardMode.Evaluation)
        {
            await BeginAsync(step, Attempt, slot);
        }

        foreach (IPipelineStageGrain stage in _stages)
        {
            StageReport report = await stage.ForwardAsync(call, batch, options);
            losses = report.Losses;
            loads.AddRange(report.Loads);
        }

        if (options.Mode != ForwardMode.Evaluation)
        {
            foreach (IPipelineStageGrain stage in _stages.Reverse())
            {
                await stage.BackwardAsync(call, weightGradients: true);
            }
        }

        return new(losses!, loads);
    }

    /// <inheritdoc/>
    public async Task<IReadOnlyList<GradientNorm>> GradientNormsAsync()
    {
        List<GradientNorm>[] norms = await Task.WhenAll(
            _stages.Select(stage => stage.GradientNormsAsync())
                .Concat(_hosts.Select(host => host.GradientNormsAsync())));
        return [.. norms.SelectMany(part => part)];
    }

    /// <inheritdoc/>
    public Task ApplyAsync(AdamWStep rates) => Task.WhenAll(
        _stages.Concat(_mirrors).Select(stage => stage.ApplyAsync(rates)).Concat(_hosts.Select(host => host.ApplyAsync(rates))));

    /// <summary>Gives up what is under way: gradients become zero, deliveries are dropped.</summary>
    public Task AbandonAsync(long step) => BeginAsync(step, Attempt + 1);

    /// <inheritdoc/>
    public Task UpdateBiasesAsync(long step, IReadOnlyDictionary<int, long[]> loads, float speed) =>
        Task.WhenAll(loads.Select(async layer =>
        {
            float[] bias = await RouterOf(layer.Key).UpdateAsync(step, layer.Value, speed);
            int stage = _stageOfLayer[layer.Key];
            await _stages[stage].SetBiasAsync(layer.Key, bias);
            if (_mirrors.Length > 0)
            {
                await _mirrors[stage].SetBiasAsync(layer.Key, bias);
            }
        }));

    /// <summary>Frees what the stages and gateways keep for a slot.</summary>
    public Task ReleaseAsync(long slot) => _stages[0].ReleaseAsync(slot);

    /// <inheritdoc/>
    public async Task<float[]?> ReadActivationAsync(long slot, string name)
    {
        foreach (IPipelineStageGrain stage in _stages)
        {
            TensorParcel parcel = await stage.ReadActivationAsync(slot, name, _process);
            if (!parcel.IsEmpty)
            {
                return parcel.ToFloats();
            }
        }

        return null;
    }

    /// <inheritdoc/>
    public async Task<float[]> ReadParameterAsync(string name) =>
        (await ReadAsync(name, ParameterPart.Value)).ToFloats();

    /// <inheritdoc/>
    public async Task<float[]> ReadGradientAsync(string name) =>
        (await ReadAsync(name, ParameterPart.Gradient)).ToFloats();

    /// <summary>Any part of a parameter, by reference where its owner is in this process.</summary>
    public Task<TensorParcel> ReadAsync(string name, ParameterPart part)
    {
        if (PlacementPlan.ExpertOf(name) is var (layer, expert))
        {
            return _hosts[_plan.SiloOfExpert[layer][expert]].ReadAsync(name, part, _process);
        }

        return _stages[_plan.StageOf(name)].ReadParameterAsync(name, part, _process);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await UnloadAsync(_grains, Name, _plan);
        await _grains.GetGrain<IExpertPlacementGrain>(Name).ForgetAsync();
    }

    private static async Task<StageDescription[]> LoadAsync(
        IGrainFactory grains, string name, ModelSource source, PlacementPlan plan)
    {
        // The gateways first: the stages then find the experts in place.
        await Task.WhenAll(plan.Silos.Select(silo =>
            grains.GetGrain<IExpertHostGrain>(GrainKeys.Host(name, silo)).LoadAsync(source)));
        StageDescription[] descriptions = await Task.WhenAll(
            StagesOf(grains, name, plan, 0).Select(stage => stage.LoadAsync(source)));
        if (plan.Directions == 2)
        {
            // After direction 0, whose parameters they share where both copies live on one silo.
            await Task.WhenAll(StagesOf(grains, name, plan, 1).Select(stage => stage.LoadAsync(source)));
        }

        return descriptions;
    }

    private static async Task UnloadAsync(IGrainFactory grains, string name, PlacementPlan plan)
    {
        await Task.WhenAll(Enumerable.Range(0, plan.Directions)
            .SelectMany(direction => StagesOf(grains, name, plan, direction)).Select(stage => stage.UnloadAsync()));
        await Task.WhenAll(plan.Silos.Select(silo =>
            grains.GetGrain<IExpertHostGrain>(GrainKeys.Host(name, silo)).UnloadAsync()));
    }

    private static IPipelineStageGrain[] StagesOf(IGrainFactory grains, string name, PlacementPlan plan, int direction) =>
        [.. Enumerable.Range(0, plan.SiloOfStage.Length)
            .Select(stage => grains.GetGrain<IPipelineStageGrain>(GrainKeys.Stage(name, stage, direction)))];

    private Task ResetRoutersAsync() => Config.HasRoutingBias
        ? Task.WhenAll(_stageOfLayer.Keys.Select(async layer =>
            await RouterOf(layer).ResetAsync(await ReadParameterAsync(ModelStage.BiasName(layer)))))
        : Task.CompletedTask;

    private IRouterGrain RouterOf(int layer) => _grains.GetGrain<IRouterGrain>(GrainKeys.Router(Name, layer));
}
