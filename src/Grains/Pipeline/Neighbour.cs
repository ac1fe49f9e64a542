using Krewe.Grains.Devices;

namespace Krewe.Grains.Pipeline;

/// <summary>A grain on another silo, or on this one, and how to reach it.</summary>
/// <param name="Grain">The grain; through its silo's own factory where <paramref name="Direct"/>.</param>
/// <param name="Direct">
/// True for another silo of this process: calls go through <see cref="ProcessSilos.CallAsync"/>.
/// </param>
/// <param name="Process">Process identity of its silo: the same one gets tensors by reference.</param>
internal readonly record struct Neighbour<TGrain>(TGrain Grain, bool Direct, Guid Process)
    where TGrain : IGrainWithStringKey
{
    /// <summary>Makes the shortest way to a grain.</summary>
    /// <param name="grains">Factory of the calling silo.</param>
    /// <param name="cluster">Cluster of the calling silo.</param>
    /// <param name="here">Name of the calling silo.</param>
    /// <param name="there">Name of the grain's silo.</param>
    /// <param name="key">Key of the grain.</param>
    public static (TGrain Grain, bool Direct) Reach(
        IGrainFactory grains, string cluster, string here, string there, string key)
    {
        IGrainFactory? other = here == there ? null : ProcessSilos.Find(cluster, there);
        return ((other ?? grains).GetGrain<TGrain>(key), other is not null);
    }
}
