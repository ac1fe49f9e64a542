using Krewe.Grains.Interfaces.Devices;
using Krewe.Model.Layers;

namespace Krewe.Grains.Interfaces.Experts;

/// <summary>
/// Which place holds what of one model: the source of every placement decision. A place is a device of a silo
/// (<see cref="PlaceName"/>); that of a silo with one device has the silo's name.
/// </summary>
[GenerateSerializer, Immutable, Alias("krewe.PlacementPlan")]
public sealed record PlacementPlan
{
    /// <summary>Rises with every change.</summary>
    [Id(0)] public long Version { get; init; }

    /// <summary>Names of the places; the ordinals below index this list.</summary>
    [Id(1)] public required string[] Silos { get; init; }

    /// <summary>Number of groups in the experts' reduction tree.</summary>
    [Id(2)] public int CanonicalGroups { get; init; }

    /// <summary>For each MoE layer the ordinal of each expert's place.</summary>
    [Id(3)] public required Dictionary<int, int[]> SiloOfExpert { get; init; }

    /// <summary>The ordinal of each stage's place.</summary>
    [Id(4)] public required int[] SiloOfStage { get; init; }

    /// <summary>
    /// The place ordinal of each stage's copy for direction 1; empty where the pipeline has one direction.
    /// </summary>
    [Id(6)] public int[] SiloOfMirror { get; init; } = [];

    /// <summary>The places as senders and receivers of tensors, in the order of <see cref="Silos"/>.</summary>
    [Id(7)] public TensorPeer[] Peers { get; init; } = [];

    /// <summary>
    /// True where direction 1's copies of the first and last stage have embedding and head of their own; false, as in a
    /// plan that does not say, where they call direction 0's (docs/decisions/0009).
    /// </summary>
    [Id(8)] public bool TableReplicas { get; init; }

    /// <summary>Directions of the pipeline.</summary>
    public int Directions => SiloOfMirror.Length > 0 ? 2 : 1;

    /// <summary>First main layer of each stage.</summary>
    [Id(5)] public required int[] FirstLayerOfStage { get; init; }

    /// <summary>Name of the place that holds an expert.</summary>
    /// <exception cref="KeyNotFoundException">The model has no such layer of experts.</exception>
    public string SiloOf(int layer, int expert) => Silos[SiloOfExpert[layer][expert]];

    /// <summary>The place ordinal of a stage's copy.</summary>
    public int SiloOfCopy(int direction, int stage) => direction == 0 ? SiloOfStage[stage] : SiloOfMirror[stage];

    /// <summary>Name of the place that holds a stage's copy.</summary>
    public string PlaceOfCopy(int direction, int stage) => Silos[SiloOfCopy(direction, stage)];

    /// <summary>
    /// The ordinal of the place that keeps the snapshots of another: one of the next silo, in their order, so that a
    /// silo may die; the next place where there is one silo alone.
    /// </summary>
    public int KeeperOf(int place)
    {
        string[] silos = [.. Silos.Select(PlaceName.SiloOf)];
        string[] all = [.. silos.Distinct()];
        if (all.Length == 1)
        {
            return (place + 1) % Silos.Length;
        }

        int[] PlacesOf(string silo) => [.. silos.Index().Where(s => s.Item == silo).Select(s => s.Index)];
        int[] next = PlacesOf(all[(Array.IndexOf(all, silos[place]) + 1) % all.Length]);
        return next[Array.IndexOf(PlacesOf(silos[place]), place) % next.Length];
    }

    /// <summary>True where the two copies of a stage live on different places, each with its own parameters.</summary>
    public bool IsApart(int stage) => Directions == 2 && SiloOfStage[stage] != SiloOfMirror[stage];

    /// <summary>
    /// The place ordinals that have the embedding, for the first stage, or the head, for the last one.
    /// </summary>
    public IEnumerable<int> SilosOfTable(int stage) =>
        TableReplicas && IsApart(stage) ? [SiloOfStage[stage], SiloOfMirror[stage]] : [SiloOfStage[stage]];

    /// <summary>The layers of a stage.</summary>
    /// <param name="stage">The stage.</param>
    /// <param name="layers">Main layers of the model.</param>
    public StageRange RangeOf(int stage, int layers)
    {
        int stages = FirstLayerOfStage.Length;
        int end = stage + 1 < stages ? FirstLayerOfStage[stage + 1] : layers;
        return new(stage, stages, FirstLayerOfStage[stage], end - FirstLayerOfStage[stage]);
    }

    /// <summary>The topology of one layer, hosts by place ordinal.</summary>
    public ExpertTopology TopologyOf(int layer) => new(SiloOfExpert[layer], CanonicalGroups);

    /// <summary>Experts of a place, by layer and index.</summary>
    public IEnumerable<(int Layer, int Expert)> ExpertsOf(int silo) => SiloOfExpert.OrderBy(layer => layer.Key)
        .SelectMany(layer => layer.Value.Index().Where(e => e.Item == silo).Select(e => (layer.Key, e.Index)));

    /// <summary>The stage that holds a parameter which is no routed expert's.</summary>
    public int StageOf(string parameter)
    {
        if (parameter.StartsWith("model.embed_tokens", StringComparison.Ordinal))
        {
            return 0;
        }

        string[] parts = parameter.Split('.');
        if (parts is ["model", "layers", var number, ..]
            && int.TryParse(number, System.Globalization.CultureInfo.InvariantCulture, out int layer))
        {
            int stage = FirstLayerOfStage.Length - 1;
            while (stage > 0 && FirstLayerOfStage[stage] > layer)
            {
                stage--;
            }

            return stage;
        }

        return SiloOfStage.Length - 1;
    }

    /// <summary>Layer and index of the routed expert that a parameter belongs to, or null.</summary>
    public static (int Layer, int Expert)? ExpertOf(string parameter) =>
        parameter.Split('.') is ["model", "layers", var layer, "mlp", "experts", var expert, ..]
            ? (int.Parse(layer, System.Globalization.CultureInfo.InvariantCulture),
               int.Parse(expert, System.Globalization.CultureInfo.InvariantCulture))
            : null;
}
