namespace Krewe.Model.Tensors;

/// <summary>
/// Which work of a device goes first; see <see cref="WorkQueue{T}"/> for the exact order. The default is
/// <see cref="Normal"/>.
/// </summary>
public readonly record struct WorkPriority
{
    /// <summary>Somebody waits for it: forwards, gradients of inputs, the experts' rows.</summary>
    public static WorkPriority Normal => default;

    /// <summary>
    /// Nobody waits for it before the step ends, such as weight gradients: it fills the time in which the device would
    /// wait for the network.
    /// </summary>
    public static WorkPriority Background => new() { IsBackground = true };

    /// <summary>Whether normal work passes it.</summary>
    public bool IsBackground { get; private init; }

    /// <summary>Of normal work that waits, the lowest turn goes first: the operation that the schedule began first.</summary>
    public int Turn { get; private init; }

    /// <summary>Normal work of an operation of a schedule.</summary>
    /// <param name="turn">Number of the operation on its rank.</param>
    public static WorkPriority Of(int turn) => new() { Turn = turn };
}
