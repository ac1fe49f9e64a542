using Orleans.Runtime;

namespace Krewe.Grains.Placement;

/// <summary>Pins a grain to the silo that the model's placement plan, or the grain's key, names.</summary>
[Serializable, GenerateSerializer, Immutable, Alias("krewe.DevicePlacement")]
public sealed class DevicePlacement : PlacementStrategy
{
    internal static readonly DevicePlacement Singleton = new();
}

/// <summary>Marks a grain as pinned (see <see cref="DevicePlacement"/>).</summary>
[AttributeUsage(AttributeTargets.Class)]
public sealed class DevicePlacementAttribute() : Orleans.Placement.PlacementAttribute(DevicePlacement.Singleton);
