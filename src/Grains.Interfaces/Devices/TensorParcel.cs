using System.Runtime.InteropServices;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Interfaces.Devices;

/// <summary>
/// A tensor on its way through a grain call: a ticket where the receiver lives in the same process or the values travel
/// through the tensor channel, the bytes otherwise.
/// </summary>
/// <remarks>
/// Ownership: a ticket hands over a view, the memory stays the sender's and must live as long as the receiver's use
/// that the called method documents. Bytes become the receiver's when it opens the parcel into an arena of its own.
/// </remarks>
[GenerateSerializer, Immutable, Alias("krewe.TensorParcel")]
public sealed class TensorParcel
{
    [Id(0)] private readonly long _ticket;
    [Id(1)] private readonly long[] _shape;
    [Id(2)] private readonly DType _dtype;
    [Id(3)] private readonly byte[]? _bytes;
    [Id(4)] private readonly TensorTicket? _channel;

    private TensorParcel(long ticket, long[] shape, DType dtype, byte[]? bytes, TensorTicket? channel = null)
    {
        _channel = channel;
        _ticket = ticket;
        _shape = shape;
        _dtype = dtype;
        _bytes = bytes;
    }

    /// <summary>No tensor.</summary>
    public static TensorParcel Empty { get; } = new(0, [], DType.Float32, null);

    /// <summary>True where there is no tensor.</summary>
    public bool IsEmpty => _shape.Length == 0;

    /// <summary>The ticket of the tensor channel, where the values travel through it.</summary>
    public TensorTicket? Ticket => _channel;

    /// <summary>Extent of the tensor; not for an empty parcel.</summary>
    public TensorShape Shape => TensorShape.Of(_shape);

    /// <summary>Element type.</summary>
    public DType DType => _dtype;

    /// <summary>True where the sender's own memory is handed over, within a process.</summary>
    public bool IsByReference => _ticket != 0;

    /// <summary>Wraps a tensor that travels through the tensor channel.</summary>
    public static TensorParcel Of(TensorTicket ticket) => new(0, ticket.Shape, ticket.DType, null, ticket);

    /// <summary>Wraps a tensor for a receiver.</summary>
    /// <param name="tensor">The tensor, or empty; in host memory where the receiver lives in another process.</param>
    /// <param name="sameProcess">True where the receiver lives in this process.</param>
    /// <param name="device">Device whose memory the tensor lies in; not needed where the host reaches it.</param>
    public static TensorParcel Of(Tensor tensor, bool sameProcess, IDevice? device = null)
    {
        if (tensor.IsEmpty)
        {
            return Empty;
        }

        return sameProcess
            ? new(ProcessExchange.Publish(new SharedTensor(tensor, tensor.OnHost ? null : device)), tensor.Shape.ToArray(), tensor.DType, null)
            : new(0, tensor.Shape.ToArray(), tensor.DType, Bytes(tensor));
    }

    /// <summary>
    /// The tensor for the host: the sender's own where it came by ticket and the host reaches it, else a copy.
    /// </summary>
    /// <param name="arena">Of the host, for a copy.</param>
    public ValueTask<Tensor> OpenOnHostAsync(Arena arena)
    {
        if (IsEmpty)
        {
            return new(default(Tensor));
        }

        if (_channel is not null)
        {
            throw new InvalidOperationException($"{_channel} travels through the tensor channel: only a silo can open it");
        }

        if (IsByReference)
        {
            return TakeShared().OnHostAsync(arena);
        }

        Tensor tensor = arena.Allocate(Shape, _dtype);
        CopyBytesTo(tensor);
        return new(tensor);
    }

    /// <summary>What the sender handed over by reference.</summary>
    public SharedTensor TakeShared() => ProcessExchange.Take<SharedTensor>(_ticket);

    /// <summary>Withdraws the ticket of a call that failed.</summary>
    public void Withdraw()
    {
        if (IsByReference)
        {
            ProcessExchange.Withdraw(_ticket);
        }
    }

    private static byte[] Bytes(Tensor tensor)
    {
        int rowBytes = tensor.Columns * tensor.DType.SizeInBytes();
        byte[] bytes = GC.AllocateUninitializedArray<byte>(checked(tensor.Rows * rowBytes));
        for (int row = 0; row < tensor.Rows; row++)
        {
            nint address = tensor.HostAddress + ((nint)row * tensor.RowStride * tensor.DType.SizeInBytes());
            Marshal.Copy(address, bytes, row * rowBytes, rowBytes);
        }

        return bytes;
    }

    private void CopyBytesTo(Tensor tensor)
    {
        long expected = tensor.Count * _dtype.SizeInBytes();
        if (_bytes!.Length != expected)
        {
            throw new InvalidOperationException($"a parcel of {tensor} carries {_bytes.Length} bytes, not {expected}");
        }

        Marshal.Copy(_bytes, 0, tensor.HostAddress, _bytes.Length);
    }
}
