using Krewe.Model.Configuration;

namespace Krewe.Model.Layers;

/// <summary>
/// Which host holds each expert of one layer, and the canonical groups of the reduction tree, which are the same
/// wherever the experts live.
/// </summary>
public sealed class ExpertTopology
{
    private const int GroupsWithoutRouterGroups = 8;

    private readonly int[] _hostOfExpert;
    private readonly int[] _hostOfGroup;

    /// <summary>A topology from the host of each expert.</summary>
    /// <param name="hostOfExpert">[E]: ordinal of the host.</param>
    /// <param name="canonicalGroups">Number of equal groups in the reduction tree.</param>
    public ExpertTopology(int[] hostOfExpert, int canonicalGroups)
    {
        if (canonicalGroups < 1 || hostOfExpert.Length % canonicalGroups != 0)
        {
            throw new ArgumentException($"{canonicalGroups} groups do not divide {hostOfExpert.Length} experts");
        }

        _hostOfExpert = hostOfExpert;
        GroupSize = hostOfExpert.Length / canonicalGroups;
        Hosts = hostOfExpert.Max() + 1;
        OnlyHost = hostOfExpert.All(host => host == hostOfExpert[0]) ? hostOfExpert[0] : -1;
        _hostOfGroup = new int[canonicalGroups];
        for (int group = 0; group < canonicalGroups; group++)
        {
            int[] hosts = hostOfExpert[(group * GroupSize)..((group + 1) * GroupSize)];
            _hostOfGroup[group] = hosts.All(host => host == hosts[0]) ? hosts[0] : -1;
        }
    }

    /// <summary>Number of hosts.</summary>
    public int Hosts { get; }

    /// <summary>The host that holds every expert, or -1 where they are spread.</summary>
    public int OnlyHost { get; }

    /// <summary>Number of experts E.</summary>
    public int Experts => _hostOfExpert.Length;

    /// <summary>Experts of one canonical group.</summary>
    public int GroupSize { get; }

    /// <summary>All experts on one host.</summary>
    public static ExpertTopology SingleHost(ModelConfig config) =>
        new(new int[config.NRoutedExperts], CanonicalGroups(config));

    /// <summary>
    /// Groups of the reduction tree: the router's; where it has none, eight equal ones, or the most below eight that
    /// divide the experts.
    /// </summary>
    public static int CanonicalGroups(ModelConfig config)
    {
        if (config.Routing.Groups > 1)
        {
            return config.Routing.Groups;
        }

        int groups = Math.Min(GroupsWithoutRouterGroups, config.NRoutedExperts);
        while (config.NRoutedExperts % groups != 0)
        {
            groups--;
        }

        return groups;
    }

    /// <summary>Host of an expert.</summary>
    public int HostOf(int expert) => _hostOfExpert[expert];

    /// <summary>Canonical group of an expert.</summary>
    public int GroupOf(int expert) => expert / GroupSize;

    /// <summary>The host that holds the whole group, or -1 where it is split.</summary>
    public int HostOfWholeGroup(int group) => _hostOfGroup[group];
}
