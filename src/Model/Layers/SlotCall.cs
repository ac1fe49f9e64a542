using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>Which piece of work a call to a stage belongs to, and until when it is wanted.</summary>
/// <param name="Slot">Micro-batch of a step, or a generation session: where activations are kept.</param>
/// <param name="Step">Number of the step or token, for messages and logs.</param>
/// <param name="Attempt">Attempt at the step; 0 outside of training runs.</param>
/// <param name="Turn">Place in the order of a device's work: of what waits there, lower turns go first.</param>
/// <param name="Abandoned">Cancelled when the attempt is given up: waits for others end, work on the device does not.</param>
public readonly record struct SlotCall(
    long Slot, long Step, long Attempt = 0, int Turn = 0, CancellationToken Abandoned = default)
{
    /// <summary>Of work that somebody waits for.</summary>
    public WorkPriority Priority => WorkPriority.Of(Turn);
}
