using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>What a head elsewhere computes of the rows of one micro-batch and depth.</summary>
/// <param name="Losses">[T]: nats, 0 where there is no target.</param>
/// <param name="GradHidden">[T, D]: gradient of the rows.</param>
public readonly record struct HeadGradients(Tensor Losses, Tensor GradHidden);

/// <summary>
/// The output head where it lives with another copy of the last stage. Rows go there and their gradients come back;
/// logits never travel (docs/decisions/0009).
/// </summary>
public interface IRemoteHead
{
    /// <summary>
    /// Losses of the rows and at once their gradients; the owner adds the projection's gradient in the order of the calls,
    /// in the slot's bank. A call begins when the one before it has ended.
    /// </summary>
    /// <param name="call">Micro-batch, step and attempt.</param>
    /// <param name="hidden">[T, D], normalised; must not change before the task ends.</param>
    /// <param name="targets">Int32 [T], negative for none; as long-lived as <paramref name="hidden"/>.</param>
    /// <param name="gradScale">d total loss / d one token's loss.</param>
    /// <param name="arena">Where the result is put; used by nobody else before the task ends.</param>
    Task<HeadGradients> RunAsync(SlotCall call, Tensor hidden, Tensor targets, double gradScale, Arena arena);
}
