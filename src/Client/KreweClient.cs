using Krewe.Grains.Interfaces;
using Krewe.Grains.Interfaces.Experts;
using Krewe.Grains.Interfaces.Serving;
using Krewe.Grains.Interfaces.Training;

namespace Krewe.Client;

/// <summary>
/// What an application or a notebook does with a Krewe cluster: generate from a loaded model, follow a run, look at its
/// routers and experts and steer them. Thread-safe.
/// </summary>
/// <param name="grains">An Orleans cluster client, or the grain factory of a silo.</param>
public sealed class KreweClient(IGrainFactory grains)
{
    /// <summary>Generates tokens from a loaded model one by one; cancelling frees its caches at once.</summary>
    /// <param name="model">Name under which the model was loaded.</param>
    /// <param name="request">Prompt and sampling.</param>
    /// <param name="cancellationToken">Ends the generation.</param>
    public IAsyncEnumerable<TokenUpdate> GenerateAsync(
        string model, GenerationRequest request, CancellationToken cancellationToken = default) =>
        grains.GetGrain<IGenerationGrain>(model).GenerateAsync(request, cancellationToken);

    /// <summary>
    /// Generates many sequences together: an element is a token of each that goes on. Cancelling frees their caches.
    /// </summary>
    /// <param name="model">Name under which the model was loaded.</param>
    /// <param name="requests">Prompts and sampling.</param>
    /// <param name="cancellationToken">Ends the generation.</param>
    public IAsyncEnumerable<TokenUpdate[]> GenerateBatchAsync(
        string model, GenerationRequest[] requests, CancellationToken cancellationToken = default) =>
        grains.GetGrain<IGenerationGrain>(model).GenerateBatchAsync(requests, cancellationToken);

    /// <summary>A training run by name.</summary>
    public TrainingRunClient Run(string run) => new(grains, run);

    /// <summary>Where an expert is and how much it has done.</summary>
    /// <param name="model">Model or run name.</param>
    /// <param name="layer">Layer number.</param>
    /// <param name="expert">Index within the layer.</param>
    public Task<ExpertStatus> ExpertAsync(string model, int layer, int expert) => grains.GetGrain<IExpertGrain>(
        GrainKeys.Expert(model, layer, expert)).StatusAsync();

    /// <summary>Which silo holds what.</summary>
    /// <param name="model">Model or run name.</param>
    public Task<PlacementPlan> PlacementAsync(string model) => grains.GetGrain<IExpertPlacementGrain>(model).GetAsync();
}

/// <summary>One training run.</summary>
/// <param name="grains">The cluster.</param>
/// <param name="name">Name of the run.</param>
public sealed class TrainingRunClient(IGrainFactory grains, string name)
{
    private ITrainingRunGrain Grain => grains.GetGrain<ITrainingRunGrain>(name);

    /// <summary>Phase and progress.</summary>
    public Task<RunStatus> StatusAsync() => Grain.StatusAsync();

    /// <summary>Everything that has happened since the run was started, then what happens, to its end.</summary>
    public IAsyncEnumerable<RunEvent> WatchAsync(CancellationToken cancellationToken = default) =>
        Grain.WatchAsync(cancellationToken);

    /// <summary>Ends the run after the step in progress, with a checkpoint.</summary>
    public Task StopAsync() => Grain.StopAsync();

    /// <summary>Bias, history and audit of a layer's router.</summary>
    public Task<RouterStatus> RouterAsync(int layer) => Router(layer).StatusAsync();

    /// <summary>
    /// Edits the bias of one expert; the edit takes effect with the next step and is kept in the audit.
    /// </summary>
    public Task EditBiasAsync(int layer, int expert, float bias, string author, string reason) =>
        Router(layer).EditAsync(expert, bias, author, reason);

    /// <summary>Freezes a layer's bias, or lets it move again.</summary>
    public Task FreezeBiasAsync(int layer, bool frozen, string author) => Router(layer).FreezeAsync(frozen, author);

    private IRouterGrain Router(int layer) => grains.GetGrain<IRouterGrain>(GrainKeys.Router(name, layer));
}
