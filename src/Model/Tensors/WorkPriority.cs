namespace Krewe.Model.Tensors;

/// <summary>Which work of a device goes first; see <see cref="WorkQueue{T}"/> for the exact order.</summary>
public enum WorkPriority
{
    /// <summary>Somebody waits for it: forwards, gradients of inputs, the experts' rows.</summary>
    Normal,

    /// <summary>
    /// Nobody waits for it before the step ends, such as weight gradients: it fills the time in which the device would
    /// wait for the network.
    /// </summary>
    Background,
}
