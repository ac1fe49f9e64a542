using Krewe.Grains.Interfaces.Devices;
using Krewe.Grains.Interfaces.Pipeline;
using Orleans.Concurrency;
namespace Krewe.Grains.Interfaces.Experts;

/// <summary>
/// Makes and keeps the placement plan of one model. Key: model or run name. The plan is versioned and persisted nowhere:
/// it is made anew from the silos at hand when a run starts or loses one, and every silo of it keeps a copy.
/// </summary>
[Alias("krewe.IExpertPlacementGrain")]
public interface IExpertPlacementGrain : IGrainWithStringKey
{
    /// <summary>Makes and keeps the plan; each call makes a new version.</summary>
    /// <param name="configJson">The model's config.json.</param>
    /// <param name="silos">The places that take part.</param>
    /// <param name="layout">Ranks and schedule of the pipeline.</param>
    [Alias("CreateAsync")]
    Task<PlacementPlan> CreateAsync(string configJson, [Immutable] TensorPeer[] silos, PipelineLayout layout);

    /// <summary>The plan, or null where none was made.</summary>
    [Alias("FindAsync")]
    Task<PlacementPlan?> FindAsync();

    /// <summary>Forgets the plan: the model was unloaded.</summary>
    [Alias("ForgetAsync")]
    Task ForgetAsync();

    /// <summary>The plan.</summary>
    /// <exception cref="InvalidOperationException">None was made.</exception>
    [Alias("GetAsync")]
    Task<PlacementPlan> GetAsync();
}
