using System.Collections.Concurrent;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Devices;

/// <content>
/// Copies between two GPUs of the process, over NVLink or PCIe, without the host's memory between them.
/// </content>
public sealed partial class CudaDevice
{
    /// <summary>Devices whose memory was asked for, and whether it can be reached.</summary>
    private readonly ConcurrentDictionary<CudaDevice, bool> _peers = new();

    /// <inheritdoc/>
    /// <remarks>In this device's stream, in the order of its submissions.</remarks>
    public Task? TryCopyFrom(IDevice source, Tensor from, Tensor to)
    {
        if (source is not CudaDevice sender)
        {
            return null;
        }

        if (from.DType != to.DType || from.Rows != to.Rows || from.Columns != to.Columns || !to.IsDense)
        {
            throw new ArgumentException(
                $"copy between devices: expected a dense tensor of one shape, got {from} to {to}");
        }

        return sender.Loss.ForCall() is { } lost ? Task.FromException(lost)
            : Loss.IsLost || !_peers.GetOrAdd(sender, Reach) ? null
            : SubmitAsync(
                static (_, copy) => copy.Device.CopyPeer(copy.Sender, copy.From, copy.To),
                (Device: this, Sender: sender, From: from, To: to));
    }

    private void CopyPeer(CudaDevice sender, Tensor from, Tensor to)
    {
        // What the driver says of a lost card's memory must not be taken for a loss of this one.
        sender.Loss.ThrowIfLost();
        if (from.IsDense || from.Rows <= 1)
        {
            _stream.CopyPeer(from.Address, sender.Context, to.Address, Context, from.Bytes);
            return;
        }

        long bytes = (long)from.Columns * from.DType.SizeInBytes();
        for (int row = 0; row < from.Rows; row++)
        {
            _stream.CopyPeer(
                from.SliceRows(row, 1).Address, sender.Context, to.SliceRows(row, 1).Address, Context, bytes);
        }
    }

    /// <summary>
    /// Opens the two pools to each other: a peer's access to a context does not reach memory of a pool.
    /// </summary>
    private bool Reach(CudaDevice sender)
    {
        if (sender.Context.Device == Context.Device)
        {
            return true;
        }

        if (!Context.CanAccess(sender.Context) || !sender.Context.CanAccess(Context))
        {
            return false;
        }

        sender._pool.LetIn(Context);
        _pool.LetIn(sender.Context);
        return true;
    }
}
