using Krewe.Grains.Devices.Channel;
using Krewe.Grains.Placement;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Devices;

/// <summary>
/// Wraps tensors for other silos and opens what they sent: by reference within a process, small ones in the grain call,
/// all others through the tensor channel.
/// </summary>
/// <param name="host">The silo's device.</param>
/// <param name="plans">Know the other silos' channels.</param>
/// <param name="channel">The silo's own.</param>
public sealed class TensorPost(DeviceHost host, PlacementPlans plans, TensorChannel channel)
{
    /// <summary>Largest tensor that rides in the grain call itself.</summary>
    public const int InBandBytes = 64 << 10;

    /// <summary>Process identity of the silo.</summary>
    public Guid Process => host.Process;

    /// <summary>How others send tensors to this silo.</summary>
    public TensorPeer Self => new(host.Silo, host.Process, channel.Address);

    /// <summary>Starts sending.</summary>
    /// <param name="tensor">The tensor, or empty; must not change before <see cref="PostedTensor.Sent"/>, and where the
    /// receiver lives in the same process as long as the called method says.</param>
    /// <param name="process">Process of the receiver.</param>
    /// <param name="scope">What it belongs to; see <see cref="Discard"/>.</param>
    /// <param name="attempt">Attempt within the scope.</param>
    /// <param name="abandoned">Ends the sending.</param>
    public PostedTensor Post(
        Tensor tensor, Guid process, string scope, long attempt = 0, CancellationToken abandoned = default)
    {
        bool small = tensor.IsEmpty || tensor.Count * tensor.DType.SizeInBytes() <= InBandBytes;
        if (process == host.Process || small || plans.FindPeer(process)?.Channel is not { } address)
        {
            return new(TensorParcel.Of(tensor, process == host.Process), Task.CompletedTask, null);
        }

        TensorTicket ticket = channel.Announce(tensor, ScopeOf(scope), attempt);
        var cancel = CancellationTokenSource.CreateLinkedTokenSource(abandoned);
        return new(TensorParcel.Of(ticket), channel.SendAsync(address, ticket, tensor, cancel.Token), cancel);
    }

    /// <summary>Opens a parcel: a view of the sender's tensor within a process, else a tensor in the arena.</summary>
    /// <param name="parcel">What came.</param>
    /// <param name="arena">Where values are put; must not be reset before the task ends.</param>
    /// <param name="abandoned">Ends the wait.</param>
    public ValueTask<Tensor> OpenAsync(TensorParcel parcel, Arena arena, CancellationToken abandoned = default) =>
        parcel.Ticket is { } ticket
            ? channel.ReceiveAsync(ticket, arena, abandoned)
            : ValueTask.FromResult(parcel.Open(arena));

    /// <summary>As <see cref="OpenAsync"/>, but the tensor is always the receiver's own.</summary>
    public async ValueTask<Tensor> TakeAsync(TensorParcel parcel, Arena arena, CancellationToken abandoned = default)
    {
        Tensor tensor = await OpenAsync(parcel, arena, abandoned);
        return parcel.IsByReference ? tensor.CopyTo(arena) : tensor;
    }

    /// <summary>Drops what came, or will come, of a scope's attempts below the given one.</summary>
    public void Discard(string scope, long beforeAttempt) => channel.Discard(ScopeOf(scope), beforeAttempt);

    /// <summary>FNV-1a: the same number for a name on every silo.</summary>
    private static long ScopeOf(string name)
    {
        ulong hash = 14695981039346656037;
        foreach (char letter in name)
        {
            hash = (hash ^ letter) * 1099511628211;
        }

        return (long)hash;
    }
}
