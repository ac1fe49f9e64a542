using Krewe.Model.Tensors;
using Xunit;

namespace Krewe.Model.Tests.Tensors;

/// <summary>Which memory an arena asks for, and what it hands out.</summary>
public class BlockArenaTests
{
    private const int FirstBlockBytes = 16 << 10;

    [Fact]
    public void Large_tensors_get_their_own_size_and_small_ones_share_a_block()
    {
        using var arena = new HostArena("test");
        for (int i = 0; i < 6; i++)
        {
            _ = arena.Allocate(100_000);
            _ = arena.Allocate(16);
        }

        // The first tensor's block has no room left; the small ones need one more, of the size that there was.
        long large = 6 * 400_000L;
        Assert.Equal(large + (6 * 64), arena.UsedBytes);
        Assert.InRange(arena.ReservedBytes, large + FirstBlockBytes, large + 400_000);
    }

    [Fact]
    public void Tensors_do_not_overlap()
    {
        using var arena = new HostArena("test");
        var random = new Random(1);
        var taken = new List<(nint Start, nint End)>();
        for (int use = 0; use < 3; use++)
        {
            taken.Clear();
            for (int i = 0; i < 300; i++)
            {
                Tensor tensor = arena.Allocate(random.Next(4) == 0 ? random.Next(1, 200_000) : random.Next(1, 500));
                tensor.AsSpan<float>().Fill(i);
                taken.Add((tensor.Address, tensor.Address + (nint)tensor.Bytes));
            }

            (nint Start, nint End)[] sorted = [.. taken.OrderBy(piece => piece.Start)];
            Assert.All(sorted.Zip(sorted.Skip(1)), pair => Assert.True(pair.First.End <= pair.Second.Start));
            arena.Reset();
        }
    }

    [Fact]
    public void A_reset_joins_the_blocks_and_the_same_use_asks_for_nothing()
    {
        long asked = 0;
        using var arena = new HostArena("test", reservedChanged: bytes => asked += Math.Max(0, bytes));
        Use();
        arena.Reset();
        long after = asked;
        long reserved = arena.ReservedBytes;
        Use();
        arena.Reset();

        Assert.Equal(after, asked);
        Assert.Equal(reserved, arena.ReservedBytes);
        Assert.Equal(0, arena.UsedBytes);

        void Use()
        {
            for (int i = 1; i < 40; i++)
            {
                _ = arena.Allocate(i * 1000);
            }
        }
    }
}
