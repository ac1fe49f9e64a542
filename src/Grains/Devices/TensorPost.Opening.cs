using Krewe.Model.Tensors;

namespace Krewe.Grains.Devices;

/// <content>What others sent, on the place's device or on the host.</content>
public sealed partial class TensorPost
{
    /// <summary>
    /// Opens a parcel: a view of the sender's tensor where the place's device reaches it, else a tensor in the arena.
    /// </summary>
    /// <param name="parcel">What came.</param>
    /// <param name="arena">
    /// Of the device: where values are put; touched before the first wait alone, and not to be reset before the task ends.
    /// </param>
    /// <param name="abandoned">Ends the wait.</param>
    public ValueTask<Tensor> OpenAsync(TensorParcel parcel, Arena arena, CancellationToken abandoned = default)
    {
        if (parcel.IsEmpty)
        {
            return new(default(Tensor));
        }

        if (parcel.IsByReference)
        {
            SharedTensor shared = parcel.TakeShared();
            return shared.MemorySpace == host.Device.MemorySpace ? new(shared.Tensor) : new(BringAsync(shared, arena));
        }

        return host.Device.SharesHostMemory()
            ? OpenOnHostAsync(parcel, arena, abandoned)
            : new(BringAsync(parcel, arena, abandoned));
    }

    /// <summary>As <see cref="OpenAsync"/>, but the tensor is always the receiver's own.</summary>
    public async ValueTask<Tensor> TakeAsync(TensorParcel parcel, Arena arena, CancellationToken abandoned = default)
    {
        if (!parcel.IsByReference)
        {
            return await OpenAsync(parcel, arena, abandoned);
        }

        SharedTensor shared = parcel.TakeShared();
        return shared.MemorySpace == host.Device.MemorySpace
            ? await host.Device.CopyAsync(shared.Tensor, arena)
            : await BringAsync(shared, arena);
    }

    /// <summary>Opens a parcel for the host: a view of the sender's tensor where the host reaches it, else a copy.</summary>
    /// <param name="parcel">What came.</param>
    /// <param name="arena">Of the host; as for <see cref="OpenAsync"/>.</param>
    /// <param name="abandoned">Ends the wait.</param>
    public ValueTask<Tensor> OpenOnHostAsync(TensorParcel parcel, Arena arena, CancellationToken abandoned = default) =>
        parcel.Ticket is { } ticket ? channel.ReceiveAsync(ticket, arena, abandoned) : parcel.OpenOnHostAsync(arena);

    /// <summary>As <see cref="OpenOnHostAsync"/>, but the tensor is always the receiver's own.</summary>
    public async ValueTask<Tensor> TakeOnHostAsync(TensorParcel parcel, Arena arena)
    {
        if (!parcel.IsByReference)
        {
            return await OpenOnHostAsync(parcel, arena);
        }

        SharedTensor shared = parcel.TakeShared();
        return await (shared.Device ?? host.Device).CopyAsync(shared.Tensor, arena);
    }

    /// <summary>
    /// From the memory of another device of this process, from one to the other where they can do that, or of the host.
    /// </summary>
    private async Task<Tensor> BringAsync(SharedTensor shared, Arena arena)
    {
        if (shared.Device is null || host.Device.SharesHostMemory())
        {
            // One of the two devices reaches both sides.
            return await (shared.Device ?? host.Device).CopyAsync(shared.Tensor, arena);
        }

        Tensor tensor = arena.Allocate(shared.Tensor.Shape, shared.Tensor.DType);
        if (host.Device.TryCopyFrom(shared.Device, shared.Tensor, tensor) is { } direct)
        {
            Interlocked.Increment(ref _direct);
            await direct;
            return tensor;
        }

        Interlocked.Increment(ref _byHost);
        Arena room = _rooms.Take();
        await UploadAsync(await shared.OnHostAsync(room), tensor, room);
        return tensor;
    }

    /// <summary>From a grain call or the channel.</summary>
    private async Task<Tensor> BringAsync(TensorParcel parcel, Arena arena, CancellationToken abandoned)
    {
        Tensor tensor = arena.Allocate(parcel.Shape, parcel.DType);
        Arena room = _rooms.Take();
        Tensor values;
        try
        {
            values = await OpenOnHostAsync(parcel, room, abandoned);
        }
        catch
        {
            _rooms.GiveBack(room);
            throw;
        }

        await UploadAsync(values, tensor, room);
        return tensor;
    }

    private async Task UploadAsync(Tensor values, Tensor tensor, Arena room)
    {
        await host.Device.SubmitAsync(
            static (kernels, copy) => kernels.Transfer(copy.Values, copy.Tensor), (Values: values, Tensor: tensor));
        _rooms.GiveBack(room);
    }
}
