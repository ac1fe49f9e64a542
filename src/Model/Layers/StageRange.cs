using Krewe.Model.Configuration;

namespace Krewe.Model.Layers;

/// <summary>Which part of the model a pipeline stage holds.</summary>
/// <param name="Index">Stage number, from 0.</param>
/// <param name="Count">Number of stages S.</param>
/// <param name="FirstLayer">First main layer.</param>
/// <param name="LayerCount">Number of main layers.</param>
public sealed record StageRange(int Index, int Count, int FirstLayer, int LayerCount)
{
    /// <summary>True for the stage with the embedding.</summary>
    public bool IsFirst => Index == 0;

    /// <summary>True for the stage with the final norm, the head and the MTP modules.</summary>
    public bool IsLast => Index == Count - 1;

    /// <summary>
    /// Cuts the main layers into <paramref name="stages"/> runs so that the costliest stage, by
    /// <see cref="StageCost"/>, costs as little as any cut allows: the last one, which also has the head and MTP, gets
    /// fewer layers. Equal configurations are always cut alike.
    /// </summary>
    /// <exception cref="KreweException">More stages than layers.</exception>
    public static StageRange[] Partition(ModelConfig config, int stages) =>
        Partition(config, stages, costs => StagePartitioner.Cut(costs, StageCost.HeadAndMtp(config), stages));

    /// <summary>
    /// The cut for DualPipe, whose rank r has stages r and S-1-r: the costliest rank costs as little as can be
    /// (docs/decisions/0009).
    /// </summary>
    /// <param name="config">The model.</param>
    /// <param name="stages">Number of stages S.</param>
    /// <param name="headOnce">True where the last rank computes the head of both directions.</param>
    /// <exception cref="KreweException">More stages than layers.</exception>
    public static StageRange[] PartitionMirrored(ModelConfig config, int stages, bool headOnce) =>
        Partition(config, stages, costs => StagePartitioner.CutMirrored(
            costs, StageCost.HeadAndMtp(config), headOnce ? StageCost.Heads(config) : 0, stages));

    private static StageRange[] Partition(ModelConfig config, int stages, Func<long[], int[]> cut)
    {
        if (stages < 1 || stages > config.NumHiddenLayers)
        {
            throw new KreweException(
                $"{stages} stages do not fit {config.NumHiddenLayers} layers: ask for 1 to {config.NumHiddenLayers}");
        }

        int[] lengths = cut(
            [.. Enumerable.Range(0, config.NumHiddenLayers).Select(layer => StageCost.Layer(config, layer))]);
        var ranges = new StageRange[stages];
        int first = 0;
        for (int stage = 0; stage < stages; stage++)
        {
            ranges[stage] = new(stage, stages, first, lengths[stage]);
            first += lengths[stage];
        }

        return ranges;
    }
}
