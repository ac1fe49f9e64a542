using Krewe.Model.Tensors;
using Krewe.Model.Training;

namespace Krewe.Model.Layers;

/// <summary>How a micro-batch runs through the stages.</summary>
/// <param name="Mode">Training, evaluation, or training with everything kept for a check.</param>
/// <param name="MainScale">
/// d total loss / d loss of one token of the main model: 1 over the global batch's targets.
/// </param>
/// <param name="MtpScales">The same for each MTP depth: lambda / depths / targets.</param>
/// <param name="Balance">Balance loss.</param>
public sealed record ForwardOptions(
    ForwardMode Mode, double MainScale, double[] MtpScales, BalanceLossOptions Balance);

/// <summary>What a forward keeps.</summary>
public enum ForwardMode
{
    /// <summary>What the backward needs.</summary>
    Training,

    /// <summary>Training, with logits kept beside their gradient.</summary>
    Check,

    /// <summary>Losses and most likely tokens only; a backward is not possible.</summary>
    Evaluation,
}

/// <summary>What a stage hands to the next: both live in the stage's slot.</summary>
/// <param name="Hidden">[T, D]: residual stream.</param>
/// <param name="Embeddings">[T, D]: token embeddings for MTP; empty where the model has none.</param>
public readonly record struct StageActivations(Tensor Hidden, Tensor Embeddings);

/// <summary>What the last stage reports of one micro-batch.</summary>
public sealed record MicroBatchLosses
{
    /// <summary>Sum over targets of the main model's cross-entropy, nats.</summary>
    public double MainSum { get; init; }

    /// <summary>Number of the main model's targets.</summary>
    public int MainCount { get; init; }

    /// <summary>Sum of each MTP depth's cross-entropy, nats.</summary>
    public double[] MtpSums { get; init; } = [];

    /// <summary>Number of each depth's targets.</summary>
    public int[] MtpCounts { get; init; } = [];

    /// <summary>Main cross-entropy summed per sequence, nats.</summary>
    public double[] SequenceSums { get; init; } = [];

    /// <summary>
    /// After an evaluation: positions where depth 1 and the main model one position on were compared.
    /// </summary>
    public int AgreementCount { get; init; }

    /// <summary>After an evaluation: how many of them had the same most likely token.</summary>
    public int Agreements { get; init; }
}

/// <summary>Balance figures of one MoE layer in one micro-batch.</summary>
/// <param name="Layer">Layer number.</param>
/// <param name="Load">[E]: tokens that chose each expert.</param>
/// <param name="BalanceLoss">Mean over sequences, before alpha.</param>
public sealed record LayerLoad(int Layer, int[] Load, double BalanceLoss);
