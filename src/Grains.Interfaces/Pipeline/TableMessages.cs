using Krewe.Grains.Interfaces.Devices;

namespace Krewe.Grains.Interfaces.Pipeline;

/// <summary>Gradients of embedding rows, for the copy of the first stage that has the embedding.</summary>
/// <param name="Call">Micro-batch, step and attempt.</param>
/// <param name="Tokens">[T]: token ids.</param>
/// <param name="Hidden">[T, D]: gradients of the stage's input.</param>
/// <param name="Embeddings">[T, D]: gradients of what MTP read, or empty.</param>
[GenerateSerializer, Immutable, Alias("krewe.EmbeddingGradients")]
public sealed record EmbeddingGradients(
    [property: Id(0)] StepCall Call, [property: Id(1)] int[] Tokens, [property: Id(2)] TensorParcel Hidden,
    [property: Id(3)] TensorParcel Embeddings);

/// <summary>Rows for the copy of the last stage that has the head.</summary>
/// <param name="Call">Micro-batch, step and attempt.</param>
/// <param name="Hidden">[T, D], normalised; must not change before the call ends.</param>
/// <param name="Targets">Int32 [T], negative for none; as long-lived as <paramref name="Hidden"/>.</param>
/// <param name="GradScale">d total loss / d one token's loss.</param>
/// <param name="Process">Process identity of the caller's silo.</param>
[GenerateSerializer, Immutable, Alias("krewe.HeadRequest")]
public sealed record HeadRequest(
    [property: Id(0)] StepCall Call, [property: Id(1)] TensorParcel Hidden, [property: Id(2)] TensorParcel Targets,
    [property: Id(3)] double GradScale, [property: Id(4)] Guid Process);

/// <summary>What the head computed of the rows; lives until the next call.</summary>
/// <param name="Losses">[T]: nats, 0 where there is no target.</param>
/// <param name="GradHidden">[T, D]: gradient of the rows.</param>
[GenerateSerializer, Immutable, Alias("krewe.HeadReply")]
public sealed record HeadReply([property: Id(0)] TensorParcel Losses, [property: Id(1)] TensorParcel GradHidden);
