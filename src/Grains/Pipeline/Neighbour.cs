using Krewe.Grains.Devices;

namespace Krewe.Grains.Pipeline;

/// <summary>A grain on another silo, or on this one, and how to reach it.</summary>
/// <param name="grain">The grain; through its silo's own factory where <paramref name="direct"/>.</param>
/// <param name="direct">True for another silo of this process, called without the network.</param>
/// <param name="process">Process identity of its silo.</param>
internal sealed class Neighbour<TGrain>(TGrain grain, bool direct, Guid process)
    where TGrain : IGrainWithStringKey
{
    /// <summary>Process identity of its silo: the same one gets tensors by reference.</summary>
    public Guid Process { get; } = process;

    /// <summary>Finds the shortest way to a grain.</summary>
    /// <param name="grains">Factory of the calling silo.</param>
    /// <param name="cluster">Cluster of the calling silo.</param>
    /// <param name="here">Name of the calling place.</param>
    /// <param name="there">Name of the grain's place; one of the same silo is called as any grain here.</param>
    /// <param name="process">Process identity of the grain's silo.</param>
    /// <param name="key">Key of the grain.</param>
    public static Neighbour<TGrain> Reach(
        IGrainFactory grains, string cluster, string here, string there, Guid process, string key)
    {
        string silo = PlaceName.SiloOf(there);
        IGrainFactory? other = PlaceName.SiloOf(here) == silo ? null : ProcessSilos.Find(cluster, silo);
        return new((other ?? grains).GetGrain<TGrain>(key), other is not null, process);
    }

    /// <summary>Calls the grain.</summary>
    public Task<T> CallAsync<T>(Func<TGrain, Task<T>> call) =>
        direct ? ProcessSilos.CallAsync(() => call(grain)) : call(grain);

    /// <summary>Calls the grain, without a result.</summary>
    public Task CallAsync(Func<TGrain, Task> call) =>
        direct ? ProcessSilos.CallAsync(() => call(grain)) : call(grain);
}
