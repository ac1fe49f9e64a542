using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>
/// The work of a host that has every expert of a layer and the stage's own device: planned there, so that nobody waits for
/// the gate's choice (docs/decisions/0015). Stage and host each submit their part before the other's has run; what one
/// leaves for the other stands here, written and read by the works themselves, which the device runs in their order.
/// </summary>
/// <param name="host">Ordinal of the host.</param>
/// <param name="groupSize">Experts of a canonical group.</param>
/// <param name="assignments">T K.</param>
public sealed class DeviceSlice(int host, int groupSize, int assignments)
{
    /// <summary>Assignments for each expert from which on a plan of the device is worth its launches.</summary>
    private const int LeastLoad = 4;

    /// <summary>Ordinal of the host.</summary>
    public int Host { get; } = host;

    /// <summary>Experts of a canonical group.</summary>
    public int GroupSize { get; } = groupSize;

    /// <summary>Number of (token, expert) pairs A = T K.</summary>
    public int Assignments { get; } = assignments;

    /// <summary>Who takes which row.</summary>
    public DispatchTable Table { get; internal set; }

    /// <summary>[T, K] Int32: the chosen experts of each token, rising.</summary>
    public Tensor Indices { get; internal set; }

    /// <summary>[T, K]: their gate weights.</summary>
    public Tensor Weights { get; internal set; }

    /// <summary>[T, D]: what the experts receive: inputs, then gradients of the routed output.</summary>
    public Tensor Rows { get; internal set; }

    /// <summary>[A, D]: what they return: results, then gradients of the inputs; neither is rounded or added up.</summary>
    public Tensor Returned { get; internal set; }

    /// <summary>[T, K]: gradients of the gate weights.</summary>
    public Tensor ReturnedWeights { get; internal set; }

    /// <summary>Whether a layer of this size is planned on the device where it can be.</summary>
    /// <param name="assignments">T K.</param>
    /// <param name="experts">E, each of which joins a launch then, with tokens or without.</param>
    public static bool Pays(long assignments, int experts) => assignments >= (long)LeastLoad * experts;
}
