using Krewe.Model;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Devices;

/// <summary>
/// The devices of a silo, each a place of its own (docs/decisions/0014): with its store, its thread and its share of
/// every plan. Grains ask here for the host of their place.
/// </summary>
public sealed class DeviceHosts : IDisposable
{
    private readonly DeviceHost[] _hosts;

    /// <param name="silo">Name of the silo.</param>
    /// <param name="devices">Its devices, one or more; disposed with this.</param>
    /// <param name="inBand">
    /// Sends tensors as bytes even to other silos of the process, as between machines; for tests.
    /// </param>
    public DeviceHosts(string silo, IReadOnlyList<IDevice> devices, bool inBand = false)
    {
        if (devices.Count == 0)
        {
            throw new ArgumentException($"silo '{silo}' needs at least one device");
        }

        Silo = silo;
        InBand = inBand;
        Process = inBand ? Guid.NewGuid() : ProcessExchange.ProcessId;
        _hosts = [.. devices.Select((device, number) => new DeviceHost(PlaceName.Of(silo, number), device, Process))];
    }

    /// <summary>Name of the silo, and of its first place.</summary>
    public string Silo { get; }

    /// <summary>True where tensors go to other silos as bytes even within the process.</summary>
    public bool InBand { get; }

    /// <summary>What other silos may know this process by: they pass tensors by reference to the same one.</summary>
    public Guid Process { get; }

    /// <summary>The places by number.</summary>
    public IReadOnlyList<DeviceHost> All => _hosts;

    /// <summary>The first place.</summary>
    public DeviceHost First => _hosts[0];

    /// <summary>The host of a place, or null where it is another silo's.</summary>
    public DeviceHost? Find(string place) => _hosts.FirstOrDefault(host => host.Place == place);

    /// <summary>The host of a place of this silo.</summary>
    /// <exception cref="KreweException">The silo has no such place.</exception>
    public DeviceHost Of(string place) => Find(place) ?? throw new KreweException(
        $"silo '{Silo}' has no device '{place}', only {string.Join(", ", _hosts.Select(host => $"'{host.Place}'"))}");

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (DeviceHost host in _hosts)
        {
            host.Dispose();
        }
    }
}
