using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>Which piece of work a call to an expert host belongs to.</summary>
/// <param name="Layer">Layer number in checkpoint names.</param>
/// <param name="Work">Micro-batch or session, step, attempt.</param>
/// <param name="BackwardFollows">True in training: the host keeps what a backward needs.</param>
public readonly record struct ExpertCall(int Layer, SlotCall Work, bool BackwardFollows)
{
    /// <summary>Where activations are kept.</summary>
    public long Slot => Work.Slot;
}

/// <summary>What the backward of a host's experts returns.</summary>
/// <param name="Rows">[OutputRows, D]: gradients of the received rows, reduced as the forward's results.</param>
/// <param name="Weights">[assignments]: gradients of the gate weights.</param>
public readonly record struct ExpertGradients(Tensor Rows, Tensor Weights);

/// <summary>
/// Somebody who holds experts: this device itself, or a silo reached through its gateway grain. Tensors that it returns
/// live until its next forward for the same layer and slot, and until the slot's weight gradients are asked for.
/// </summary>
/// <remarks>
/// Weight gradients of a layer are added in the order of the slots, whoever asks first: two directions of a pipeline
/// share the experts, and a sum must not depend on their race (docs/decisions/0006). So a request for them returns at
/// once, and every slot of a step must make it, with or without tokens.
/// </remarks>
public interface IExpertHost
{
    /// <summary>
    /// True where the experts compute on the device of who calls: then a slice may be left to the device
    /// (<see cref="ExpertSlice.OnDevice"/>). Its calls give and take no rows, and end when the work was submitted: it runs
    /// behind what was submitted before, and ahead of what will be.
    /// </summary>
    bool SharesDevice { get; }

    /// <summary>
    /// Has every expert of a layer join work that this device will run many times, and gives them by index; only where
    /// <see cref="SharesDevice"/>, of a layer whose experts are all here.
    /// </summary>
    /// <param name="layer">Layer number.</param>
    /// <param name="count">Number E of its experts.</param>
    /// <param name="work">The session.</param>
    Task<Expert[]> JoinAsync(int layer, int count, SlotCall work);

    /// <summary>Runs the experts of <paramref name="slice"/> over <paramref name="rows"/>.</summary>
    /// <param name="call">Layer, slot and step.</param>
    /// <param name="slice">Who takes which row.</param>
    /// <param name="rows">[rows, D]; must live until the task completes.</param>
    /// <returns>The result; empty for a slice that was left to the device.</returns>
    Task<Tensor> ForwardAsync(ExpertCall call, ExpertSlice slice, Tensor rows);

    /// <summary>Gradients of the rows and of the gate weights.</summary>
    /// <param name="call">As given to the forward.</param>
    /// <param name="gradRows">[rows, D].</param>
    Task<ExpertGradients> BackwardAsync(ExpertCall call, Tensor gradRows);

    /// <summary>
    /// Has the experts' weight gradients of a slot added in its turn; also said of a slot without tokens here, whose turn
    /// then passes. What <see cref="BackwardAsync"/> returned may be overwritten from now on.
    /// </summary>
    Task BackwardWeightAsync(ExpertCall call);

    /// <summary>Frees what is kept for a slot in every layer.</summary>
    Task ReleaseAsync(long slot);
}
