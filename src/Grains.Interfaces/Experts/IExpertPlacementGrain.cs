namespace Krewe.Grains.Interfaces.Experts;

/// <summary>Keeps the placement plan of one model. Key: model or run name. The plan is versioned and persisted nowhere:
/// it is made anew from the silos at hand when a run starts.</summary>
[Alias("krewe.IExpertPlacementGrain")]
public interface IExpertPlacementGrain : IGrainWithStringKey
{
    /// <summary>Makes and keeps the plan; each call makes a new version.</summary>
    /// <param name="configJson">The model's config.json.</param>
    /// <param name="silos">Names of the silos that take part.</param>
    /// <param name="stages">Number of pipeline stages.</param>
    [Alias("CreateAsync")]
    Task<PlacementPlan> CreateAsync(string configJson, string[] silos, int stages);

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
