using Krewe.Grains.Devices;
using Krewe.Grains.Placement;
using Krewe.Model.Configuration;
using Orleans.Runtime;

namespace Krewe.Grains.Training;

/// <content>How a model comes to its silos, moves between them, and goes.</content>
public sealed partial class ClusterModel
{
    /// <summary>Plans the placement and loads every stage and expert, the stages in line.</summary>
    /// <param name="grains">The cluster.</param>
    /// <param name="name">Model or run name.</param>
    /// <param name="source">Where the parameters come from.</param>
    /// <param name="silos">Names of the places that take part.</param>
    /// <param name="stages">Number of pipeline stages.</param>
    /// <param name="process">Process identity for reading tensors by reference; the default is this process.</param>
    public static Task<ClusterModel> CreateAsync(
        IGrainFactory grains, string name, ModelSource source, string[] silos, int stages, Guid? process = null) =>
        CreateAsync(grains, name, source, silos, PipelineLayout.Sequential(stages), process);

    /// <summary>Plans the placement and loads every stage and expert.</summary>
    /// <param name="grains">The cluster.</param>
    /// <param name="name">Model or run name.</param>
    /// <param name="source">Where the parameters come from.</param>
    /// <param name="silos">Names of the places that take part.</param>
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

        await EnsureLivingAsync(grains, name, silos);
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

    /// <summary>Refuses silos that are not there before anything is placed: a grain pinned to one is waited for, for long.</summary>
    private static async Task EnsureLivingAsync(IGrainFactory grains, string name, string[] silos)
    {
        MembershipEntry[] members = await grains.GetGrain<IManagementGrain>(0).GetDetailedHosts(onlyActive: true);
        string[] living = [.. members.Select(member => member.SiloName).Order(StringComparer.Ordinal)];
        if (silos.Select(PlaceName.SiloOf).Except(living).FirstOrDefault() is { } absent)
        {
            throw new Model.KreweException(
                $"'{name}' shall use silo '{absent}', which is not there: living are {string.Join(", ", living)}");
        }

        foreach (string silo in silos.Where(place => PlaceName.NumberOf(place) > 0).Select(PlaceName.SiloOf).Distinct())
        {
            PlaceStatus[] devices = await grains.GetGrain<IDeviceGrain>(silo).PlacesAsync();
            string[] places = [.. devices.Select(place => place.Name)];
            if (silos.Where(place => PlaceName.SiloOf(place) == silo).Except(places).FirstOrDefault() is { } missing)
            {
                throw new Model.KreweException(
                    $"'{name}' shall use '{missing}', a device that silo '{silo}' does not have: " +
                    $"it has {string.Join(", ", places)}");
            }
        }
    }

    /// <summary>
    /// Loads a model over silos where parts of it may live already: those that are where the new plan wants them and at
    /// the step that the source names stay, the others are fetched.
    /// </summary>
    /// <param name="grains">The cluster.</param>
    /// <param name="name">Run name.</param>
    /// <param name="source">Where states come from; its step is the one that everything will have.</param>
    /// <param name="silos">Places that take part from now on.</param>
    /// <param name="leaving">Places of living silos that no longer take part.</param>
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
            // After direction 0, whose parameters they share where both copies live at one place.
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
}
