using Krewe.Model.Pipeline;

namespace Krewe.Grains.Interfaces.Pipeline;

/// <summary>How a model is cut into stages and which rank holds which.</summary>
/// <param name="Method">Schedule, which decides how many stages and copies a rank holds.</param>
/// <param name="Ranks">Ranks P.</param>
[GenerateSerializer, Immutable, Alias("krewe.PipelineLayout")]
public sealed record PipelineLayout([property: Id(0)] PipelineMethod Method, [property: Id(1)] int Ranks)
{
    /// <summary>Stages S that the layers are cut into: P, or 2P under DualPipeV.</summary>
    public int Stages => Method == PipelineMethod.DualPipeV ? 2 * Ranks : Ranks;

    /// <summary>Copies of every stage: one per direction.</summary>
    public int Directions => Method == PipelineMethod.DualPipe ? 2 : 1;

    /// <summary>The rank that holds a stage of a direction.</summary>
    public int RankOf(int direction, int stage) => Method switch
    {
        PipelineMethod.DualPipe when direction == 1 => Ranks - 1 - stage,
        PipelineMethod.DualPipeV when stage >= Ranks => (2 * Ranks) - 1 - stage,
        _ => stage,
    };

    /// <summary>Stages in line, run one micro-batch at a time.</summary>
    public static PipelineLayout Sequential(int stages) => new(PipelineMethod.Sequential, stages);
}
