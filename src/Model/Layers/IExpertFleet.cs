namespace Krewe.Model.Layers;

/// <summary>All hosts of the routed experts, and who holds which expert.</summary>
public interface IExpertFleet
{
    /// <summary>The hosts, by the ordinals of <see cref="ExpertTopology.HostOf"/>.</summary>
    IReadOnlyList<IExpertHost> Hosts { get; }

    /// <summary>Where the experts of a layer live.</summary>
    ExpertTopology TopologyOf(int layer);

    /// <summary>Tells how many tokens each expert of a layer got, where no slice said so: the device had planned.</summary>
    void Count(int layer, ReadOnlySpan<int> load);
}
