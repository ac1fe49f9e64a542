using Krewe.Model.Tensors;

namespace Krewe.Grains.Devices;

/// <summary>Wraps tensors for other silos and opens what they sent.</summary>
/// <param name="host">The silo's device.</param>
public sealed class TensorPost(DeviceHost host)
{
    /// <summary>Process identity of the silo.</summary>
    public Guid Process => host.Process;

    /// <summary>A tensor that is being sent.</summary>
    /// <param name="Parcel">For the grain call.</param>
    /// <param name="Sent">Completes when the tensor's memory is no longer read.</param>
    public readonly record struct Posted(TensorParcel Parcel, Task Sent);

    /// <summary>Starts sending.</summary>
    /// <param name="tensor">The tensor, or empty; must not change before <see cref="Posted.Sent"/>, and where the receiver
    /// lives in the same process as long as the called method says.</param>
    /// <param name="process">Process of the receiver.</param>
    /// <param name="abandoned">Ends the sending.</param>
    public Posted Post(Tensor tensor, Guid process, CancellationToken abandoned = default)
    {
        _ = abandoned;
        return new(TensorParcel.Of(tensor, process == host.Process), Task.CompletedTask);
    }

    /// <summary>Opens a parcel: a view of the sender's tensor within a process, else a tensor in the arena.</summary>
    /// <param name="parcel">What came.</param>
    /// <param name="arena">Where bytes are put.</param>
    /// <param name="abandoned">Ends the wait.</param>
    public ValueTask<Tensor> OpenAsync(TensorParcel parcel, Arena arena, CancellationToken abandoned = default)
    {
        _ = (abandoned, host);
        return ValueTask.FromResult(parcel.Open(arena));
    }

    /// <summary>As <see cref="OpenAsync"/>, but the tensor is always the receiver's own.</summary>
    public async ValueTask<Tensor> TakeAsync(TensorParcel parcel, Arena arena, CancellationToken abandoned = default)
    {
        Tensor tensor = await OpenAsync(parcel, arena, abandoned);
        return parcel.IsByReference ? tensor.CopyTo(arena) : tensor;
    }
}
