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
public sealed partial class ClusterModel : IInspectable, IAsyncDisposable
{
    /// <summary>Norms come behind all work of a step. Ahead of the deadline of a grain call, which would name nobody.</summary>
    private static readonly TimeSpan NormsDeadline = TimeSpan.FromMinutes(9);

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
            if (report.Follows)
            {
                report = await stage.ReportAsync(call);
            }

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
        Task<List<GradientNorm>>[] parts =
        [
            .. _stages.Select(stage => stage.GradientNormsAsync(Attempt)),
            .. _hosts.Select(host => host.GradientNormsAsync(Attempt)),
        ];
        Task<List<GradientNorm>[]> all = Task.WhenAll(parts);
        try
        {
            return [.. (await all.WaitAsync(NormsDeadline)).SelectMany(part => part)];
        }
        catch (TimeoutException exception) when (!all.IsCompleted)
        {
            IEnumerable<string> late = Enumerable.Range(0, parts.Length).Where(i => !parts[i].IsCompleted).Select(i =>
                i < _stages.Length
                    ? $"stage {i} on '{_plan.PlaceOfCopy(0, i)}'"
                    : $"the experts on '{_plan.Silos[i - _stages.Length]}'");
            throw new TimeoutException(
                $"'{Name}': no gradient norms came after {NormsDeadline.TotalSeconds:F0} s from {string.Join(", ", late)}",
                exception);
        }
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

    /// <summary>
    /// Opens a parcel that was read, for the host: a view where the host reaches it, else a copy in the arena.
    /// </summary>
    public ValueTask<Tensor> OpenAsync(TensorParcel parcel, Arena arena) =>
        _post is null ? parcel.OpenOnHostAsync(arena) : _post.OpenOnHostAsync(parcel, arena);

    private async Task<float[]> ToFloatsAsync(TensorParcel parcel)
    {
        using var arena = new HostArena("parcel");
        return TensorValues.ToFloats(await OpenAsync(parcel, arena));
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
