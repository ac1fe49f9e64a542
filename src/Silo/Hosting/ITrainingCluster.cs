namespace Krewe.Silo.Hosting;

/// <summary>Silos that a run can use: of this process, or of a cluster that others started.</summary>
public interface ITrainingCluster : IAsyncDisposable
{
    /// <summary>Reaches every grain of the cluster.</summary>
    IGrainFactory Grains { get; }

    /// <summary>Names of the silos, as placement plans know them; of a cluster, those alive when it was joined.</summary>
    string[] SiloNames { get; }

    /// <summary>Names of the places that can compute: the devices of all silos that answer.</summary>
    Task<string[]> PlacesAsync();
}
