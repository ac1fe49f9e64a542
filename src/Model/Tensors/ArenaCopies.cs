using System.Runtime.InteropServices;

namespace Krewe.Model.Tensors;

/// <summary>Index lists and factors of the host, and tensors of other arenas, as tensors.</summary>
public static class ArenaCopies
{
    /// <summary>A dense copy of a tensor in host memory, made by the calling thread.</summary>
    public static unsafe Tensor CopyTo(this Tensor source, Arena arena)
    {
        if (source.IsEmpty)
        {
            return default;
        }

        Tensor copy = arena.Allocate(source.Shape, source.DType);
        int size = source.DType.SizeInBytes();
        long rowBytes = (long)source.Columns * size;
        for (int row = 0; row < source.Rows; row++)
        {
            Buffer.MemoryCopy(
                (void*)(source.Address + ((nint)row * source.RowStride * size)),
                (void*)(copy.Address + (nint)(row * rowBytes)), rowBytes, rowBytes);
        }

        return copy;
    }

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
