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
    private readonly IExpertHostGrain[] _hosts;
    private readonly PlacementPlan _plan;
    private readonly Dictionary<int, int> _stageOfLayer;
    private readonly Guid _process;

    private ClusterModel(
        IGrainFactory grains, string name, ModelConfig config, PlacementPlan plan, IPipelineStageGrain[] stages,
        StageDescription[] descriptions, Guid process)
    {
        _grains = grains;
        Name = name;
        Config = config;
        _plan = plan;
        _stages = stages;
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

    /// <summary>Who holds what.</summary>
    public PlacementPlan Plan => _plan;

    /// <summary>Parameters of all stages, the routed experts' excluded.</summary>
    public long ParametersOfStages { get; }

    /// <summary>Plans the placement and loads every stage and expert.</summary>
    /// <param name="grains">The cluster.</param>
    /// <param name="name">Model or run name.</param>
    /// <param name="source">Where the parameters come from.</param>
    /// <param name="silos">Names of the silos that take part.</param>
    /// <param name="stages">Number of pipeline stages.</param>
    /// <param name="process">Process identity for reading tensors by reference; the default is this process.</param>
    public static async Task<ClusterModel> CreateAsync(
        IGrainFactory grains, string name, ModelSource source, string[] silos, int stages, Guid? process = null)
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

        PlacementPlan plan = await placement.CreateAsync(source.ConfigJson, silos, stages);
        // The gateways first: the stages then find the experts in place.
        await Task.WhenAll(silos.Select(silo =>
            grains.GetGrain<IExpertHostGrain>(GrainKeys.Host(name, silo)).LoadAsync(source)));
        IPipelineStageGrain[] grainsOfStages = [.. Enumerable.Range(0, stages)
            .Select(stage => grains.GetGrain<IPipelineStageGrain>(GrainKeys.Stage(name, stage)))];
        StageDescription[] descriptions = await Task.WhenAll(grainsOfStages.Select(stage => stage.LoadAsync(source)));
        var model = new ClusterModel(
            grains, name, config, plan, grainsOfStages, descriptions, process ?? ProcessExchange.ProcessId);
        await model.ResetRoutersAsync();
        return model;
    }

    /// <inheritdoc/>
    public async Task<MicroBatchReport> RunAsync(long slot, long step, MicroBatch batch, ForwardOptions options)
    {
        MicroBatchLosses? losses = null;
        var loads = new List<LayerLoad>();
        foreach (IPipelineStageGrain stage in _stages)
        {
            StageReport report = await stage.ForwardAsync(slot, step, batch, options);
            losses = report.Losses;
            loads.AddRange(report.Loads);
        }

        if (options.Mode != ForwardMode.Evaluation)
        {
            foreach (IPipelineStageGrain stage in _stages.Reverse())
            {
                await stage.BackwardAsync(slot, step, weightGradients: true);
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
        _stages.Select(stage => stage.ApplyAsync(rates)).Concat(_hosts.Select(host => host.ApplyAsync(rates))));

    /// <summary>Sets every gradient to zero: what was accumulated is given up.</summary>
    public Task ZeroGradientsAsync() => Task.WhenAll(
        _stages.Select(stage => stage.ZeroGradientsAsync()).Concat(_hosts.Select(host => host.ZeroGradientsAsync())));

    /// <inheritdoc/>
    public Task UpdateBiasesAsync(long step, IReadOnlyDictionary<int, long[]> loads, float speed) =>
        Task.WhenAll(loads.Select(async layer =>
        {
            float[] bias = await RouterOf(layer.Key).UpdateAsync(step, layer.Value, speed);
            await _stages[_stageOfLayer[layer.Key]].SetBiasAsync(layer.Key, bias);
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

    private static async Task UnloadAsync(IGrainFactory grains, string name, PlacementPlan plan)
    {
        await Task.WhenAll(plan.SiloOfStage.Select((_, stage) =>
            grains.GetGrain<IPipelineStageGrain>(GrainKeys.Stage(name, stage)).UnloadAsync()));
        await Task.WhenAll(plan.Silos.Select(silo =>
            grains.GetGrain<IExpertHostGrain>(GrainKeys.Host(name, silo)).UnloadAsync()));
    }

    private Task ResetRoutersAsync() => Config.HasRoutingBias
        ? Task.WhenAll(_stageOfLayer.Keys.Select(async layer =>
            await RouterOf(layer).ResetAsync(await ReadParameterAsync(ModelStage.BiasName(layer)))))
        : Task.CompletedTask;

    private IRouterGrain RouterOf(int layer) => _grains.GetGrain<IRouterGrain>(GrainKeys.Router(Name, layer));
}
