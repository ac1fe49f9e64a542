using System.Collections.Concurrent;
using Krewe.Grains.Devices;
using Krewe.Grains.Placement;
using Krewe.Model.Configuration;
using Krewe.Model.Kernels;
using Krewe.Model.Layers;
using Krewe.Model.Tensors;
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
    private readonly ConcurrentDictionary<int, (long Step, float[] Bias)> _biases = [];
    private readonly Guid _process;
    private readonly TensorPost? _post;

    private ClusterModel(
        IGrainFactory grains, string name, ModelConfig config, PipelineLayout layout, PlacementPlan plan,
        StageDescription[] descriptions, Guid process, TensorPost? post)
    {
        _post = post;
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
    /// <param name="post">Opens tensors from other processes, where the caller lives in a silo.</param>
    public static async Task<ClusterModel> CreateAsync(
        IGrainFactory grains, string name, ModelSource source, string[] silos, PipelineLayout layout, Guid? process = null,
        TensorPost? post = null)
    {
        if (!GrainKeys.IsName(name))
        {
            throw new Model.KreweException($"'{name}' cannot name a model or run: use a name without '/', '\\' and '@'");
        }

        ModelConfig config = ModelConfig.Parse(source.ConfigJson, "the load request");
        IExpertPlacementGrain placement = grains.GetGrain<IExpertPlacementGrain>(name);
        // A model of this name may be loaded, or left half loaded: the new one takes its place.
        await UnloadAsync(grains, name, await placement.FindAsync(), silos);

        TensorPeer[] peers = await Task.WhenAll(silos.Select(silo => grains.GetGrain<IDeviceGrain>(silo).PeerAsync()));
        PlacementPlan plan = await placement.CreateAsync(source.ConfigJson, peers, layout);
        await Task.WhenAll(silos.Select(silo => grains.GetGrain<IDeviceGrain>(silo).UsePlanAsync(name, plan)));
        StageDescription[] descriptions = await LoadAsync(grains, name, source, plan);
        var model = new ClusterModel(
            grains, name, config, layout, plan, descriptions, process ?? ProcessExchange.ProcessId, post);
        await model.ResetRoutersAsync();
        return model;
    }

    /// <summary>
    /// Loads a model over silos where parts of it may live already: those that are where the new plan wants them and at
    /// the step that the source names stay, the others are fetched.
    /// </summary>
    /// <param name="grains">The cluster.</param>
    /// <param name="name">Run name.</param>
    /// <param name="source">Where states come from; its step is the one that everything will have.</param>
    /// <param name="silos">Silos that take part from now on.</param>
    /// <param name="leaving">Living silos that no longer take part.</param>
    /// <param name="layout">Ranks and schedule of the pipeline.</param>
    /// <param name="attempt">A higher attempt than any before: what is under way is given up.</param>
    /// <param name="post">Opens tensors from other processes.</param>
    public static async Task<ClusterModel> MoveAsync(
        IGrainFactory grains, string name, ModelSource source, string[] silos, string[] leaving, PipelineLayout layout,
        long attempt, TensorPost post)
    {
        source = source with { Attempt = attempt };
        string[] all = [.. silos.Concat(leaving)];
        IStateHostGrain StateOf(string silo) => grains.GetGrain<IStateHostGrain>(GrainKeys.Host(name, silo));
        await Task.WhenAll(all.Select(silo => grains.GetGrain<IExpertHostGrain>(GrainKeys.Host(name, silo))
            .BeginAsync(new(source.Step, attempt, 0))));
        TensorPeer[] peers = await Task.WhenAll(silos.Select(silo => grains.GetGrain<IDeviceGrain>(silo).PeerAsync()));
        PlacementPlan plan = await grains.GetGrain<IExpertPlacementGrain>(name)
            .CreateAsync(source.ConfigJson, peers, layout);
        await Task.WhenAll(all.Select(silo => grains.GetGrain<IDeviceGrain>(silo).UsePlanAsync(name, plan)));
        await Task.WhenAll(all.Select(silo => StateOf(silo).MoveGrainsAsync(attempt)));
        StageDescription[] descriptions = await LoadAsync(grains, name, source, plan);
        await Task.WhenAll(all.Select(silo => StateOf(silo).TrimAsync(attempt)));
        var model = new ClusterModel(
            grains, name, ModelConfig.Parse(source.ConfigJson, "the load request"), layout, plan, descriptions,
            post.Process, post)
        {
            Attempt = attempt,
        };
        await model.ResetRoutersAsync();
        return model;
    }

    /// <summary>The gateways to the states of the plan's silos, in their order.</summary>
    public IReadOnlyList<IStateHostGrain> States() =>
        [.. _plan.Silos.Select(silo => _grains.GetGrain<IStateHostGrain>(GrainKeys.Host(Name, silo)))];

    /// <summary>Silos that have the state of an owner under this plan, for a snapshot that was just taken.</summary>
    public Dictionary<string, string[]> Holders() => HoldersOf(_plan);

    /// <summary>A part of a parameter as it was when a snapshot was taken.</summary>
    public async Task<TensorParcel> ReadSavedAsync(string name, ParameterPart part, int step)
    {
        (string owner, int silo) = PlacementPlan.ExpertOf(name) is var (layer, expert)
            ? (OwnerState.ExpertKey(layer, expert), _plan.SiloOfExpert[layer][expert])
            : (OwnerState.StageKey(_plan.StageOf(name)), _plan.SiloOfStage[_plan.StageOf(name)]);
        TensorParcel parcel = await _grains.GetGrain<IStateHostGrain>(GrainKeys.Host(Name, _plan.Silos[silo]))
            .ReadSavedAsync(owner, step, name, part, _process);
        return parcel.IsEmpty
            ? throw new SnapshotLostException($"silo '{_plan.Silos[silo]}' has no '{name}' of step {step} any more")
            : parcel;
    }

    internal static Dictionary<string, string[]> HoldersOf(PlacementPlan plan)
    {
        var holders = new Dictionary<string, string[]>();
        foreach ((int layer, int[] experts) in plan.SiloOfExpert)
        {
            for (int expert = 0; expert < experts.Length; expert++)
            {
                holders.Add(OwnerState.ExpertKey(layer, expert), Ring(experts[expert]));
            }
        }

        for (int stage = 0; stage < plan.SiloOfStage.Length; stage++)
        {
            IEnumerable<string> copies = Enumerable.Range(0, plan.Directions)
                .SelectMany(direction => Ring(plan.SiloOfCopy(direction, stage)));
            holders.Add(OwnerState.StageKey(stage), [.. copies.Distinct()]);
        }

        return holders;

        string[] Ring(int silo) => [plan.Silos[silo], plan.Silos[(silo + 1) % plan.Silos.Length]];
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
            if (report.Delivers)
            {
                await stage.DeliveredAsync(call, gradients: false);
            }

            losses = report.Losses;
            loads.AddRange(report.Loads);
        }

        if (options.Mode != ForwardMode.Evaluation)
        {
            foreach (IPipelineStageGrain stage in _stages.Reverse())
            {
                StageReport report = await stage.BackwardAsync(call, weightGradients: true);
                if (report.Delivers)
                {
                    await stage.DeliveredAsync(call, gradients: true);
                }
            }
        }

        return new(losses!, loads);
    }

    /// <inheritdoc/>
    public async Task<IReadOnlyList<GradientNorm>> GradientNormsAsync()
    {
        List<GradientNorm>[] norms = await Task.WhenAll(
            _stages.Select(stage => stage.GradientNormsAsync(Attempt))
                .Concat(_hosts.Select(host => host.GradientNormsAsync(Attempt))));
        return [.. norms.SelectMany(part => part)];
    }

    /// <inheritdoc/>
    public Task ApplyAsync(AdamWStep rates) => Task.WhenAll(
        _stages.Concat(_mirrors).Select(stage => stage.ApplyAsync(rates, Attempt)).Concat(_hosts.Select(host => host.ApplyAsync(rates, Attempt))));

    /// <summary>Gives up what is under way: gradients become zero, deliveries are dropped.</summary>
    public Task AbandonAsync(long step) => BeginAsync(step, Attempt + 1);

    /// <inheritdoc/>
    public Task UpdateBiasesAsync(long step, IReadOnlyDictionary<int, long[]> loads, float speed) =>
        Task.WhenAll(loads.Select(async layer =>
        {
            float[] bias = await UpdateBiasAsync(layer.Key, step, layer.Value, speed);
            int stage = _stageOfLayer[layer.Key];
            await _stages[stage].SetBiasAsync(layer.Key, bias, Attempt);
            if (_mirrors.Length > 0)
            {
                await _mirrors[stage].SetBiasAsync(layer.Key, bias, Attempt);
            }
        }));

    /// <summary>One router's vector after a step. A router that left with its silo takes up the vector that it had.</summary>
    private async Task<float[]> UpdateBiasAsync(int layer, long step, long[] load, float speed)
    {
        IRouterGrain router = RouterOf(layer);
        float[] bias = await router.UpdateAsync(step, load, speed, Attempt);
        if (bias.Length == 0)
        {
            (long known, bias) = _biases[layer];
            await router.ResetAsync(bias, Attempt);
            bias = known < step ? await router.UpdateAsync(step, load, speed, Attempt) : bias;
        }

        _biases[layer] = (step, bias);
        return bias;
    }

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
                return await ToFloatsAsync(parcel);
            }
        }

        return null;
    }

    /// <inheritdoc/>
    public async Task<float[]> ReadParameterAsync(string name) =>
        await ToFloatsAsync(await ReadAsync(name, ParameterPart.Value));

    /// <inheritdoc/>
    public async Task<float[]> ReadGradientAsync(string name) =>
        await ToFloatsAsync(await ReadAsync(name, ParameterPart.Gradient));

    /// <summary>Any part of a parameter, by reference where its owner is in this process.</summary>
    public Task<TensorParcel> ReadAsync(string name, ParameterPart part)
    {
        if (PlacementPlan.ExpertOf(name) is var (layer, expert))
        {
            return _hosts[_plan.SiloOfExpert[layer][expert]].ReadAsync(name, part, _process);
        }

        return _stages[_plan.StageOf(name)].ReadParameterAsync(name, part, _process);
    }

    /// <summary>Opens a parcel that was read: a view within the process, else a copy in the arena.</summary>
    public ValueTask<Tensor> OpenAsync(TensorParcel parcel, Arena arena) =>
        _post is null ? ValueTask.FromResult(parcel.Open(arena)) : _post.OpenAsync(parcel, arena);

    private async Task<float[]> ToFloatsAsync(TensorParcel parcel)
    {
        using var arena = new HostArena("parcel");
        return TensorValues.ToFloats(await OpenAsync(parcel, arena));
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await UnloadAsync(_grains, Name, _plan, []);
        await _grains.GetGrain<IExpertPlacementGrain>(Name).ForgetAsync();
    }

    private static async Task<StageDescription[]> LoadAsync(
        IGrainFactory grains, string name, ModelSource source, PlacementPlan plan)
    {
        // The gateways first: the stages then find the experts in place.
        await Task.WhenAll(plan.Silos.Select(silo =>
            grains.GetGrain<IExpertHostGrain>(GrainKeys.Host(name, silo)).LoadAsync(source)));
        StageDescription[] descriptions = await Task.WhenAll(
            StagesOf(grains, name, plan, 0).Select(stage => GrainMoves.UntilAtHomeAsync(() => stage.LoadAsync(source))));
        if (plan.Directions == 2)
        {
            // After direction 0, whose parameters they share where both copies live on one silo.
            await Task.WhenAll(StagesOf(grains, name, plan, 1).Select(stage => GrainMoves.UntilAtHomeAsync(() => stage.LoadAsync(source))));
        }

        return descriptions;
    }

    /// <summary>Unloads a model wherever it may be; a silo that has gone has nothing left to unload.</summary>
    private static async Task UnloadAsync(IGrainFactory grains, string name, PlacementPlan? plan, IEnumerable<string> silos)
    {
        IEnumerable<Task> stages = plan is null ? [] : Enumerable.Range(0, plan.Directions)
            .SelectMany(direction => StagesOf(grains, name, plan, direction)).Select(stage => stage.UnloadAsync());
        await TryAllAsync(stages);
        await TryAllAsync(silos.Union(plan?.Silos ?? []).Select(silo =>
            grains.GetGrain<IExpertHostGrain>(GrainKeys.Host(name, silo)).UnloadAsync()));

        static Task TryAllAsync(IEnumerable<Task> calls) => Task.WhenAll(calls.Select(async call =>
            await call.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext)));
    }

    private static IPipelineStageGrain[] StagesOf(IGrainFactory grains, string name, PlacementPlan plan, int direction) =>
        [.. Enumerable.Range(0, plan.SiloOfStage.Length)
            .Select(stage => grains.GetGrain<IPipelineStageGrain>(GrainKeys.Stage(name, stage, direction)))];

    private Task ResetRoutersAsync() => Config.HasRoutingBias
        ? Task.WhenAll(_stageOfLayer.Keys.Select(async layer =>
        {
            float[] bias = await ReadParameterAsync(ModelStage.BiasName(layer));
            _biases[layer] = (-1, bias);
            await RouterOf(layer).ResetAsync(bias, Attempt);
        }))
        : Task.CompletedTask;

    private IRouterGrain RouterOf(int layer) => _grains.GetGrain<IRouterGrain>(GrainKeys.Router(Name, layer));
}
