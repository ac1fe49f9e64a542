namespace Krewe.Grains.Interfaces.Devices;

/// <summary>A place as a sender of tensors sees it.</summary>
/// <param name="Silo">Name of the place: see <see cref="PlaceName"/>.</param>
/// <param name="Process">Its process: within one process tensors go by reference.</param>
/// <param name="Channel">The tensor channel of its silo; null for one that gets tensors in grain calls only.</param>
/// <param name="Device">Its device, such as <c>cuda:0</c>; empty where that is not known.</param>
[GenerateSerializer, Immutable, Alias("krewe.TensorPeer")]
public sealed record TensorPeer([property: Id(0)] string Silo, [property: Id(1)] Guid Process,
    [property: Id(2)] ChannelAddress? Channel = null, [property: Id(3)] string Device = "");
