using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>
/// The work of a host that has every expert of a layer and the stage's own device: planned there, so that nobody waits for
/// the gate's choice (docs/decisions/0013).
/// </summary>
/// <param name="Host">Ordinal of the host.</param>
/// <param name="Table">Who takes which row.</param>
/// <param name="Indices">[T, K] Int32: the chosen experts of each token, rising.</param>
/// <param name="Weights">[T, K]: their gate weights.</param>
/// <param name="GroupSize">Experts of a canonical group.</param>
public sealed record DeviceSlice(int Host, DispatchTable Table, Tensor Indices, Tensor Weights, int GroupSize)
{
    /// <summary>Assignments for each expert from which on a plan of the device is worth its launches.</summary>
    private const int LeastLoad = 4;

    /// <summary>Whether a layer of this size is planned on the device where it can be.</summary>
    /// <param name="assignments">T K.</param>
    /// <param name="experts">E, each of which joins a launch then, with tokens or without.</param>
    public static bool Pays(long assignments, int experts) => assignments >= (long)LeastLoad * experts;
}
