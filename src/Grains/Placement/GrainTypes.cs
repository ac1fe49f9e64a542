namespace Krewe.Grains.Placement;

/// <summary>Type names of the pinned grains, as they stand in grain ids.</summary>
public static class GrainTypes
{
    /// <summary>An expert.</summary>
    public const string Expert = "krewe.expert";

    /// <summary>A pipeline stage.</summary>
    public const string Stage = "krewe.stage";

    /// <summary>A gateway to the experts of a place.</summary>
    public const string Host = "krewe.host";

    /// <summary>The states that a place holds.</summary>
    public const string State = "krewe.state";

    /// <summary>A device, which is a place.</summary>
    public const string Device = "krewe.device";
}
