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

    /// <summary>True where the sender's own memory is handed over, within a process.</summary>
    public bool IsByReference => _ticket != 0;

    /// <summary>Wraps a tensor that travels through the tensor channel.</summary>
    public static TensorParcel Of(TensorTicket ticket) => new(0, ticket.Shape, ticket.DType, null, ticket);

    /// <summary>Wraps a tensor for a receiver.</summary>
    /// <param name="tensor">The tensor, or empty.</param>
    /// <param name="sameProcess">True where the receiver lives in this process.</param>
    public static TensorParcel Of(Tensor tensor, bool sameProcess)
    {
        if (tensor.IsEmpty)
        {
            return Empty;
        }

        return sameProcess
            ? new(ProcessExchange.Publish(tensor), tensor.Shape.ToArray(), tensor.DType, null)
            : new(0, tensor.Shape.ToArray(), tensor.DType, Bytes(tensor));
    }

    /// <summary>
    /// The tensor: the sender's own where it came by ticket, else a copy in <paramref name="arena"/>.
    /// </summary>
    public Tensor Open(Arena arena)
    {
        if (IsEmpty)
        {
            return default;
        }

        if (_channel is not null)
        {
            throw new InvalidOperationException($"{_channel} travels through the tensor channel: only a silo can open it");
        }

        if (_bytes is null)
        {
            return ProcessExchange.Take<Tensor>(_ticket);
        }

        Tensor tensor = arena.Allocate(TensorShape.Of(_shape), _dtype);
        CopyBytesTo(tensor);
        return tensor;
    }

    /// <summary>The values as a new array; Int32 values are converted.</summary>
    public float[] ToFloats()
    {
        using var arena = new HostArena("parcel");
        return IsEmpty ? [] : TensorValues.ToFloats(Open(arena));
    }

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
            nint address = tensor.Address + ((nint)row * tensor.RowStride * tensor.DType.SizeInBytes());
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

        Marshal.Copy(_bytes, 0, tensor.Address, _bytes.Length);
    }
}
