using Krewe.Grains.Devices;
using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Tensors;
using Xunit;

namespace Krewe.Grains.Tests.Devices;

/// <summary>Saved states: found by owner and step, dropped by step, their memory used again.</summary>
public class SnapshotStoreTests
{
    [Fact]
    public void States_are_kept_while_they_are_read_and_leave_their_memory()
    {
        using var pool = new ComputePool(1);
        using var device = new CpuDevice(pool, "cpu:0");
        using var store = new SnapshotStore(device, "run");
        Tensor first = Save(store, "expert/1/0", 5);
        Save(store, "expert/1/1", 10);
        Assert.Equal(first.Address, store.Find("expert/1/0", 5).Address);
        Assert.True(store.Find("expert/1/0", 10).IsEmpty);

        long bytes = store.Bytes;
        using (store.Pin(5))
        {
            store.DropExcept([10]);
            Assert.Equal(bytes, store.Bytes);
        }

        store.DropExcept([10]);
        Assert.Equal(["expert/1/1"], store.KeysOf(10));
        Assert.Empty(store.KeysOf(5));
        Assert.Equal(first.Address, Save(store, "expert/2/7", 15).Address);
        long reserved = device.ReservedBytes;
        Save(store, "expert/2/7", 15);
        Assert.InRange(device.ReservedBytes, reserved - bytes, reserved);
    }

    [Fact]
    public void Memory_that_the_last_snapshot_did_not_need_is_freed()
    {
        using var pool = new ComputePool(1);
        using var device = new CpuDevice(pool, "cpu:0");
        using var store = new SnapshotStore(device, "run");
        Save(store, "expert/1/0", 5);
        long one = device.ReservedBytes;
        Save(store, "expert/1/1", 5);
        // The second expert leaves. What both left serves the first one's next states, one of the two.
        Save(store, "expert/1/0", 10);
        store.DropExcept([10]);
        Assert.Equal(3 * one, device.ReservedBytes);
        Save(store, "expert/1/0", 15);
        store.DropExcept([15]);
        Assert.Equal(2 * one, device.ReservedBytes);
    }

    private static Tensor Save(SnapshotStore store, string owner, int step)
    {
        Arena arena = store.CreateArena(owner);
        Tensor state = arena.Allocate(new TensorShape(64, 64), DType.UInt8);
        store.Add(owner, step, arena, state);
        return state;
    }
}
