using Krewe.Model.Checkpoints;
using Krewe.Model.Configuration;
using Krewe.Model.Layers;
using Krewe.Model.Training;

namespace Krewe.Silo.Commands;

/// <summary>What a model is and where its parameters come from: a checkpoint, or a seed.</summary>
/// <param name="Config">The model.</param>
/// <param name="Checkpoint">The open checkpoint; null for fresh parameters.</param>
/// <param name="Seed">Seed of fresh parameters.</param>
internal sealed record ModelOrigin(ModelConfig Config, CheckpointReader? Checkpoint = null, ulong Seed = 0)
{
    /// <summary>The parameters, drawn on the device where they are fresh.</summary>
    public IParameterSource Parameters() => Checkpoint is { } checkpoint
        ? new CheckpointParameters(checkpoint)
        : new SeededParameters(Seed, Config.InitializerRange, onDevice: true);
}
