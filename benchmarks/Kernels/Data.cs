using Krewe.Model.Tensors;

namespace Krewe.Kernels;

/// <summary>Seeded inputs.</summary>
internal static class Data
{
    public static Tensor Random(Arena arena, int rows, int columns, int seed)
    {
        Tensor tensor = arena.Allocate(rows, columns);
        Random random = new(seed);
        foreach (ref float value in tensor.AsSpan<float>())
        {
            value = (random.NextSingle() * 2) - 1;
        }

        return tensor;
    }

    public static Tensor Integers(Arena arena, int count, int below, int seed)
    {
        Tensor tensor = arena.Allocate(count, DType.Int32);
        Random random = new(seed);
        foreach (ref int value in tensor.AsSpan<int>())
        {
            value = random.Next(below);
        }

        return tensor;
    }
}
