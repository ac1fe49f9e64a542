using Krewe.Gpu.Driver;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Devices;

/// <summary>
/// Two pieces of page-locked memory in turn: the host fills one while the device still copies from the other. Kept for the
/// next use, as large as the largest tensor that went through.
/// </summary>
/// <param name="context">Of the device.</param>
/// <param name="stream">Where the copies run.</param>
/// <param name="loss">Whether the device is lost.</param>
internal sealed class WritingRooms(CudaContext context, CudaStream stream, DeviceLoss loss) : IDisposable
{
    /// <summary>Largest tensor that goes through; locking more would take longer than the driver's own staging.</summary>
    public const long MostBytes = 64L << 20;

    private readonly Room[] _rooms = [new(context, loss), new(context, loss)];
    private int _next;

    /// <summary>Host memory for a tensor; waits until what it held before has been copied.</summary>
    public Tensor Take(TensorShape shape)
    {
        Room room = _rooms[_next];
        room.Copied.Synchronize();
        room.Arena.Reset();
        return room.Arena.Allocate(shape);
    }

    /// <summary>Copies what was taken to the device; the other room is next.</summary>
    public void Copy(Tensor taken, Tensor destination)
    {
        stream.Copy(taken.Address, destination.Address, taken.Bytes);
        _rooms[_next].Copied.Record(stream);
        _next = 1 - _next;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Room room in _rooms)
        {
            room.Copied.Dispose();
            room.Arena.Dispose();
        }
    }

    private readonly record struct Room(PageLockedArena Arena, CudaEvent Copied)
    {
        public Room(CudaContext context, DeviceLoss loss)
            : this(new PageLockedArena("values on their way to the device", context, loss), new CudaEvent())
        {
        }
    }
}
