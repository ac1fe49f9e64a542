using Krewe.Model.Tensors;

namespace Krewe.Grains.Devices;

/// <summary>
/// Host memory for tensors on their way between a device and other silos, used again and again: to lock its pages takes
/// the system long.
/// </summary>
/// <param name="device">The device that copies from and to it.</param>
internal sealed class HostRooms(IDevice device) : IDisposable
{
    private readonly Lock _lock = new();
    private readonly Stack<Arena> _idle = [];

    /// <summary>An empty arena; see <see cref="GiveBack"/>.</summary>
    public Arena Take()
    {
        lock (_lock)
        {
            if (_idle.TryPop(out Arena? arena))
            {
                return arena;
            }
        }

        return device.CreateHostArena("tensors on their way");
    }

    /// <summary>Lets another tensor have the memory: no copy uses it any more.</summary>
    public void GiveBack(Arena arena)
    {
        arena.Reset();
        lock (_lock)
        {
            _idle.Push(arena);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_lock)
        {
            while (_idle.TryPop(out Arena? arena))
            {
                arena.Dispose();
            }
        }
    }
}
