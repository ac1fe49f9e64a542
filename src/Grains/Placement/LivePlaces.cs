using System.Collections.Concurrent;
using Krewe.Grains.Devices;
using Krewe.Model.Tensors;
using Microsoft.Extensions.Options;
using Orleans.Configuration;
using Orleans.Runtime;
using Orleans.Runtime.Messaging;

namespace Krewe.Grains.Placement;

/// <summary>
/// The places that take part in the cluster now: the silos as this one's membership view knows them, and their devices
/// as they themselves say. A place that has lost its device is retired: it counts as dead, though its silo's grains
/// still answer and the silo's other places go on.
/// </summary>
/// <param name="statuses">The silo's view.</param>
/// <param name="grains">Where other processes' silos are asked.</param>
/// <param name="cluster">Which cluster.</param>
public sealed class LivePlaces(ISiloStatusOracle statuses, IGrainFactory grains, IOptions<ClusterOptions> cluster)
{
    /// <summary>A silo that hangs is not waited for: what it said before stands until it is declared dead.</summary>
    private static readonly TimeSpan AnswerDeadline = TimeSpan.FromSeconds(2);

    /// <summary>What silos of other processes said, for each start of one.</summary>
    private readonly ConcurrentDictionary<SiloAddress, PlaceStatus[]> _told = new();

    /// <summary>The address of an active silo, or null.</summary>
    public SiloAddress? Find(string silo)
    {
        foreach ((SiloAddress address, string name) in Active())
        {
            if (name == silo)
            {
                return address;
            }
        }

        return null;
    }

    /// <summary>Names of the places that can compute, in their order.</summary>
    public IReadOnlyList<string> Names() => Named(isLost: false);

    /// <summary>Names of the places of active silos that have lost their devices, in their order.</summary>
    public IReadOnlyList<string> Retired() => Named(isLost: true);

    /// <summary>How a place of this process lost its device, or null.</summary>
    public DeviceLostException? LossOf(string place) => ProcessSilos.LossOf(cluster.Value.ClusterId, place);

    /// <summary>Asks silos of other processes for their places: those that were not asked yet, or all.</summary>
    /// <param name="all">True after a failure: one may have lost a device.</param>
    public async Task RefreshAsync(bool all = false)
    {
        (SiloAddress Address, string Name)[] active = [.. Active()];
        foreach (SiloAddress gone in _told.Keys.Except(active.Select(silo => silo.Address)))
        {
            _told.TryRemove(gone, out _);
        }

        await Task.WhenAll(active
            .Where(silo => PlacesHere(silo.Name) is null && (all || !_told.ContainsKey(silo.Address)))
            .Select(silo => AskAsync(silo.Address, silo.Name)));
    }

    /// <summary>Active silos of other processes that have never said what places they have.</summary>
    public IReadOnlyList<string> Untold() =>
        [.. Active().Where(silo => PlacesHere(silo.Name) is null && !_told.ContainsKey(silo.Address)).Select(silo => silo.Name)];

    private async Task AskAsync(SiloAddress address, string silo)
    {
        try
        {
            _told[address] = await grains.GetGrain<IDeviceGrain>(silo).PlacesAsync().WaitAsync(AnswerDeadline);
        }
        catch (Exception exception)
            when (exception is OrleansException or ConnectionFailedException or TimeoutException or OperationCanceledException)
        {
            // It dies or hangs: membership decides.
        }
    }

    private string[] Named(bool isLost) =>
    [
        .. Active().SelectMany(silo => PlacesOf(silo.Address, silo.Name)).Where(place => place.IsLost == isLost)
            .Select(place => place.Name).Distinct().Order(PlaceName.Order),
    ];

    private IEnumerable<(string Name, bool IsLost)> PlacesOf(SiloAddress address, string silo) =>
        PlacesHere(silo) is { } here
            ? here.Select(place => (place, LossOf(place) is not null))
            : _told.GetValueOrDefault(address, []).Select(place => (place.Name, place.IsLost));

    private string[]? PlacesHere(string silo) => ProcessSilos.PlacesOf(cluster.Value.ClusterId, silo);

    private IEnumerable<(SiloAddress Address, string Name)> Active()
    {
        foreach (SiloAddress silo in statuses.GetApproximateSiloStatuses(onlyActive: true).Keys)
        {
            if (statuses.TryGetSiloName(silo, out string? name))
            {
                yield return (silo, name);
            }
        }
    }
}
