using Krewe.Grains.Interfaces.Experts;

namespace Krewe.Grains.Interfaces.Devices;

/// <summary>One device of a silo: a place. Key: <see cref="PlaceName"/>.</summary>
[Alias("krewe.IDeviceGrain")]
public interface IDeviceGrain : IGrainWithStringKey
{
    /// <summary>Inventory and memory.</summary>
    [Alias("StatusAsync")]
    Task<DeviceStatus> StatusAsync();

    /// <summary>How the silo sends and receives tensors.</summary>
    [Alias("PeerAsync")]
    Task<TensorPeer> PeerAsync();

    /// <summary>All places of the silo, this one among them, by number.</summary>
    [Alias("PlacesAsync")]
    Task<PlaceStatus[]> PlacesAsync();

    /// <summary>Hands the silo a placement plan, so that it places grains by it; an older one than known is ignored.</summary>
    [Alias("UsePlanAsync")]
    Task UsePlanAsync(string model, PlacementPlan plan);

    /// <summary>
    /// Asks the silo's process to leave its cluster, as Ctrl-C would; returns before it does. The silos of an embedded
    /// cluster stay: they go with their process.
    /// </summary>
    [Alias("StopAsync")]
    Task StopAsync();
}

/// <summary>A device of a silo.</summary>
/// <param name="Name">Name of the place.</param>
/// <param name="Device">Name of the device.</param>
/// <param name="IsLost">True where the device is lost: the place is retired, the silo's others go on.</param>
[GenerateSerializer, Immutable, Alias("krewe.PlaceStatus")]
public sealed record PlaceStatus(
    [property: Id(0)] string Name, [property: Id(1)] string Device, [property: Id(2)] bool IsLost);

/// <summary>State of a device.</summary>
/// <param name="Silo">Name of the place.</param>
/// <param name="Device">Name of the device.</param>
/// <param name="Kernels">Backend and instruction set.</param>
/// <param name="ReservedBytes">Bytes that its arenas hold.</param>
/// <param name="Experts">Experts whose weights are here.</param>
/// <param name="Stages">Stages whose weights are here.</param>
/// <param name="Models">Models and runs with anything here.</param>
/// <param name="ManagedBytes">The managed heap of the silo's process, as large as the last collection left it.</param>
/// <param name="PeakBytes">Most bytes of the device's memory that were in use at one time; 0 where it keeps no count.</param>
/// <param name="BFloat16Rate">
/// Published rate of the device's bfloat16 matrix products, operations a second; 0 where none is known.
/// </param>
/// <param name="IsLost">True where the device is lost.</param>
[GenerateSerializer, Immutable, Alias("krewe.DeviceStatus")]
public sealed record DeviceStatus(
    [property: Id(0)] string Silo, [property: Id(1)] string Device, [property: Id(2)] string Kernels,
    [property: Id(3)] long ReservedBytes, [property: Id(4)] int Experts, [property: Id(5)] int Stages,
    [property: Id(6)] HostedModelStatus[] Models, [property: Id(7)] long ManagedBytes,
    [property: Id(8)] long PeakBytes = 0, [property: Id(9)] double BFloat16Rate = 0,
    [property: Id(10)] bool IsLost = false);

/// <summary>The part of a model that a device holds.</summary>
/// <param name="Name">Model or run name.</param>
/// <param name="Experts">Experts whose weights are here.</param>
/// <param name="Stages">Stages whose weights are here.</param>
[GenerateSerializer, Immutable, Alias("krewe.HostedModelStatus")]
public sealed record HostedModelStatus(
    [property: Id(0)] string Name, [property: Id(1)] int Experts, [property: Id(2)] int Stages);
