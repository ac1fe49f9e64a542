using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Interfaces;

/// <summary>Where the parameters of a model come from.</summary>
[GenerateSerializer, Immutable, Alias("krewe.ModelSource")]
public sealed record ModelSource
{
    /// <summary>The model's config.json.</summary>
    [Id(0)] public required string ConfigJson { get; init; }

    /// <summary>Folder of a checkpoint that every silo can read, or null for fresh parameters.</summary>
    [Id(1)] public string? Checkpoint { get; init; }

    /// <summary>Seed of fresh parameters.</summary>
    [Id(2)] public ulong Seed { get; init; }

    /// <summary>True to take float32 masters and AdamW's moments from the checkpoint's training state.</summary>
    [Id(3)] public bool Resume { get; init; }

    /// <summary>True where gradients and moments are needed.</summary>
    [Id(4)] public bool Training { get; init; }

    /// <summary>Storage of the moments.</summary>
    [Id(5)] public DType MomentType { get; init; }

    /// <summary>Longest sequence, in tokens.</summary>
    [Id(6)] public int MaxPositions { get; init; }

    /// <summary>Optimizer steps that the parameters have behind them.</summary>
    [Id(7)] public int Step { get; init; }

    /// <summary>States in the memory of the cluster, which come before everything else; null where there are none.</summary>
    [Id(8)] public SnapshotSource? Snapshot { get; init; }

    /// <summary>Attempt of the run that loads; 0 for a new model. A silo refuses an older one than it knows.</summary>
    [Id(10)] public long Attempt { get; init; }

    /// <summary>Name of the precision recipe that stages and experts compute by.</summary>
    [Id(11)] public string Precision { get; init; } = PrecisionRecipe.Fp32.Name;

    /// <summary>The recipe of that name; without masters where nothing is trained.</summary>
    public PrecisionRecipe Recipe => Training
        ? PrecisionRecipe.Get(Precision)
        : PrecisionRecipe.Get(Precision).ForInference();

    /// <summary>Folder of the run that the model is trained by; null where it is not.</summary>
    [Id(9)] public string? RunFolder { get; init; }
}

/// <summary>What of a parameter is read.</summary>
public enum ParameterPart
{
    /// <summary>The float32 weight, or the routing bias.</summary>
    Value,

    /// <summary>The accumulated gradient.</summary>
    Gradient,

    /// <summary>AdamW's first moment.</summary>
    FirstMoment,

    /// <summary>AdamW's second moment.</summary>
    SecondMoment,
}
