using Krewe.Model.Tensors;

namespace Krewe.Grains.Devices;

/// <summary>Brings an expert or a stage to the state of a step, from wherever in the cluster that state is.</summary>
/// <param name="grains">The cluster.</param>
/// <param name="posts">Open what other places send.</param>
public sealed class StateRestorer(IGrainFactory grains, TensorPosts posts)
{
    /// <summary>Restores one owner; where it is at that step already, nothing happens.</summary>
    /// <exception cref="SnapshotLostException">No silo has the state.</exception>
    internal async Task RestoreAsync(HostedModel model, OwnerState owner, SnapshotSource source, bool isNew)
    {
        if (!isNew && owner.Parameters.AppliedStep == source.Step)
        {
            return;
        }

        Tensor own = model.Snapshots.Find(owner.Key, source.Step);
        if (!own.IsEmpty)
        {
            await model.Device.SubmitAsync(kernels => owner.Load(kernels, own, source.Step));
            return;
        }

        foreach (string place in source.HoldersOf(owner.Key).Where(place => place != model.Place))
        {
            IStateHostGrain holder = grains.GetGrain<IStateHostGrain>(GrainKeys.Host(model.Name, place));
            TensorParcel parcel = await holder.ReadStateAsync(owner.Key, source.Step, posts.First.Process);
            if (!parcel.IsEmpty)
            {
                using Arena arena = model.Device.CreateHostArena($"{model.Name}: state of {owner.Key}");
                Tensor state = await posts.First.OpenOnHostAsync(parcel, arena);
                await model.Device.SubmitAsync(kernels => owner.Load(kernels, state, source.Step));
                return;
            }
        }

        throw new SnapshotLostException($"no living silo has the state of {owner.Key} of '{model.Name}' at step {source.Step}");
    }
}
