using Krewe.Model.Kernels;
using Krewe.Model.Layers;

namespace Krewe.Model.Training;

/// <summary>The stages and experts of a run as a trainer sees them: in this process, or grains of a cluster.</summary>
public interface ITrainingPipeline
{
    /// <summary>Forward and backward of all micro-batches of a step, in the order of the pipeline's schedule.</summary>
    /// <param name="step">Step number.</param>
    /// <param name="batch">The micro-batches.</param>
    /// <param name="options">Scales and mode.</param>
    /// <returns>One report per micro-batch, in their order.</returns>
    Task<IReadOnlyList<MicroBatchReport>> RunStepAsync(long step, IReadOnlyList<MicroBatch> batch, ForwardOptions options);

    /// <summary>Forward and, unless evaluating, backward of one micro-batch through all stages.</summary>
    /// <param name="slot">Number of the micro-batch within the step.</param>
    /// <param name="step">Step number.</param>
    /// <param name="batch">Tokens and targets.</param>
    /// <param name="options">Scales and mode.</param>
    Task<MicroBatchReport> RunAsync(long slot, long step, MicroBatch batch, ForwardOptions options);

    /// <summary>Squared gradient norms of every parameter, in any order.</summary>
    Task<IReadOnlyList<GradientNorm>> GradientNormsAsync();

    /// <summary>One AdamW step of every parameter; gradients become zero.</summary>
    Task ApplyAsync(AdamWStep rates);

    /// <summary>Moves the routing biases by the loads of the global batch.</summary>
    /// <param name="step">Step number.</param>
    /// <param name="loads">Tokens per expert of each layer, summed over micro-batches.</param>
    /// <param name="speed">Gamma.</param>
    Task UpdateBiasesAsync(long step, IReadOnlyDictionary<int, long[]> loads, float speed);
}

/// <summary>What one micro-batch reports.</summary>
/// <param name="Losses">Losses of the last stage.</param>
/// <param name="Loads">Loads and balance losses of all MoE layers.</param>
public sealed record MicroBatchReport(MicroBatchLosses Losses, IReadOnlyList<LayerLoad> Loads);
