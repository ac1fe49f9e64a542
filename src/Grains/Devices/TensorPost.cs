using Krewe.Grains.Devices.Channel;
using Krewe.Grains.Placement;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Devices;

/// <summary>
/// Wraps tensors for other silos and opens what they sent: by reference within a process, small ones in the grain call,
/// all others through the tensor channel. What lies in a device's own memory goes by way of the host's, but to a device
/// of the same process that can copy it itself.
/// </summary>
/// <param name="host">The device whose tensors it sends, and to which it brings what came.</param>
/// <param name="plans">Know the other silos' channels.</param>
/// <param name="channel">The silo's.</param>
public sealed partial class TensorPost(DeviceHost host, PlacementPlans plans, TensorChannel channel) : IDisposable
{
    private readonly HostRooms _rooms = new(host.Device);
    private long _direct;
    private long _byHost;

    /// <summary>Largest tensor that rides in the grain call itself.</summary>
    public const int InBandBytes = 64 << 10;

    /// <summary>Tensors of other devices of the process that came straight from their memory.</summary>
    public long DirectCopies => Interlocked.Read(ref _direct);

    /// <summary>Tensors of other devices of the process that came by way of the host's memory.</summary>
    public long CopiesByHost => Interlocked.Read(ref _byHost);

    /// <summary>Process identity of the silo.</summary>
    public Guid Process => host.Process;

    /// <summary>How others send tensors to this place.</summary>
    public TensorPeer Self => new(host.Place, host.Process, channel.Address, host.Device.Name);

    /// <summary>Starts sending; a large tensor may still be under way when the parcel is there.</summary>
    /// <param name="tensor">
    /// On the place's device or in host memory, or empty; must not change before <see cref="PostedTensor.Sent"/>, and
    /// where the receiver lives in the same process as long as the called method says.
    /// </param>
    /// <param name="process">Process of the receiver.</param>
    /// <param name="scope">What it belongs to; see <see cref="Discard"/>.</param>
    /// <param name="attempt">Attempt within the scope.</param>
    /// <param name="abandoned">Ends the sending.</param>
    public ValueTask<PostedTensor> PostAsync(
        Tensor tensor, Guid process, string scope, long attempt = 0, CancellationToken abandoned = default)
    {
        bool reachable = process == host.Process;
        if (reachable || tensor.IsEmpty)
        {
            return new(Posted(TensorParcel.Of(tensor, reachable, host.Device)));
        }

        if (tensor.Bytes <= InBandBytes || plans.FindPeer(process)?.Channel is not { } address)
        {
            return tensor.OnHost ? new(Posted(TensorParcel.Of(tensor, sameProcess: false))) : InBandAsync(tensor);
        }

        TensorTicket ticket = channel.Announce(tensor, ScopeOf(scope), attempt);
        var cancel = CancellationTokenSource.CreateLinkedTokenSource(abandoned);
        Task sent = tensor.OnHost
            ? channel.SendAsync(address, ticket, tensor, cancel.Token)
            : SendAsync(address, ticket, tensor, cancel.Token);
        return new(new PostedTensor(TensorParcel.Of(ticket), sent, cancel));
    }

    /// <summary>Drops what came, or will come, of a scope's attempts below the given one.</summary>
    public void Discard(string scope, long beforeAttempt) => channel.Discard(ScopeOf(scope), beforeAttempt);

    /// <inheritdoc/>
    public void Dispose() => _rooms.Dispose();

    private static PostedTensor Posted(TensorParcel parcel) => new(parcel, Task.CompletedTask, null);

    private async ValueTask<PostedTensor> InBandAsync(Tensor tensor)
    {
        Arena room = _rooms.Take();
        TensorParcel parcel = TensorParcel.Of(await host.Device.CopyAsync(tensor, room), sameProcess: false);
        _rooms.GiveBack(room);
        return Posted(parcel);
    }

    /// <summary>By way of the host. An arena that something failed in is not used again: a copy may still write there.
    /// </summary>
    private async Task SendAsync(
        ChannelAddress address, TensorTicket ticket, Tensor tensor, CancellationToken cancellationToken)
    {
        Arena room = _rooms.Take();
        Tensor copy = await host.Device.CopyAsync(tensor, room);
        try
        {
            await channel.SendAsync(address, ticket, copy, cancellationToken);
        }
        finally
        {
            _rooms.GiveBack(room);
        }
    }

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
