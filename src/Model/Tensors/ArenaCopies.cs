using System.Runtime.InteropServices;

namespace Krewe.Model.Tensors;

/// <summary>Index lists and factors of the host as tensors.</summary>
internal static class ArenaCopies
{
    /// <summary>An Int32 [n] copy of <paramref name="values"/>.</summary>
    public static Tensor CopyOf(this Arena arena, List<int> values)
    {
        Tensor copy = arena.Allocate(values.Count, DType.Int32);
        CollectionsMarshal.AsSpan(values).CopyTo(copy.AsSpan<int>());
        return copy;
    }

    /// <summary>A Float32 [n] copy of <paramref name="values"/>.</summary>
    public static Tensor CopyOf(this Arena arena, List<float> values)
    {
        Tensor copy = arena.Allocate(values.Count);
        CollectionsMarshal.AsSpan(values).CopyTo(copy.AsSpan<float>());
        return copy;
    }
}
