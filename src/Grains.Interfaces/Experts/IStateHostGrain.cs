using Krewe.Grains.Interfaces.Devices;
using Orleans.Concurrency;

namespace Krewe.Grains.Interfaces.Experts;

/// <summary>
/// The state that a place holds of a run, in memory: saved at a step, kept by a peer, handed to whoever takes over. The
/// gateway's second face: the same key <c>model@place</c>.
/// </summary>
/// <remarks>Owners are experts (<c>expert/3/12</c>), stages (<c>stage/0</c>), <c>embedding</c> and <c>head</c>.</remarks>
[Alias("krewe.IStateHostGrain")]
public interface IStateHostGrain : IGrainWithStringKey
{
    /// <summary>
    /// Copies the state of every owner here, as it is after an optimizer step. Training may go on when it returns.
    /// </summary>
    /// <returns>Bytes copied.</returns>
    [Alias("TakeSnapshotAsync")]
    Task<long> TakeSnapshotAsync(int step, long attempt);

    /// <summary>Sends the states that were taken here at a step to a peer, which keeps them.</summary>
    [Alias("ShareSnapshotAsync")]
    Task ShareSnapshotAsync(int step, TensorPeer peer);

    /// <summary>Keeps the state of a peer's owner.</summary>
    [Alias("KeepAsync")]
    Task KeepAsync(string owner, int step, TensorParcel state);

    /// <summary>Frees all states but those of the given steps.</summary>
    [Alias("DropSnapshotsAsync")]
    Task DropSnapshotsAsync([Immutable] int[] keep, long attempt);

    /// <summary>
    /// The state of an owner at a step: a saved one, or the living one where it has applied just that step. An empty
    /// parcel where there is neither.
    /// </summary>
    [Alias("ReadStateAsync")]
    Task<TensorParcel> ReadStateAsync(string owner, int step, Guid process);

    /// <summary>A parameter or bias out of a state that was taken here; an empty parcel where there is none.</summary>
    [Alias("ReadSavedAsync")]
    Task<TensorParcel> ReadSavedAsync(string owner, int step, string name, ParameterPart part, Guid process);

    /// <summary>
    /// Moves the grains whose owners the plan puts elsewhere; their memory stays.
    /// </summary>
    [Alias("MoveGrainsAsync")]
    Task MoveGrainsAsync(long attempt);

    /// <summary>Frees the memory of owners that the plan puts elsewhere.</summary>
    [Alias("TrimAsync")]
    Task TrimAsync(long attempt);
}
