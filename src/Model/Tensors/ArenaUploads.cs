using System.Buffers;
using System.Runtime.InteropServices;
using Krewe.Model.Kernels;

namespace Krewe.Model.Tensors;

/// <summary>Index lists and factors of the host as tensors; to be called inside submitted work.</summary>
public static class ArenaUploads
{
    /// <summary>An Int32 [n] tensor of <paramref name="values"/>.</summary>
    public static Tensor Upload(this Arena arena, IKernels kernels, ReadOnlySpan<int> values) =>
        Upload(arena, kernels, values, DType.Int32);

    /// <summary>A Float32 [n] tensor of <paramref name="values"/>.</summary>
    public static Tensor Upload(this Arena arena, IKernels kernels, ReadOnlySpan<float> values) =>
        Upload(arena, kernels, values, DType.Float32);

    /// <summary>An Int32 [n] tensor of <paramref name="values"/>.</summary>
    public static Tensor Upload(this Arena arena, IKernels kernels, List<int> values) =>
        arena.Upload(kernels, CollectionsMarshal.AsSpan(values));

    /// <summary>A Float32 [n] tensor of <paramref name="values"/>.</summary>
    public static Tensor Upload(this Arena arena, IKernels kernels, List<float> values) =>
        arena.Upload(kernels, CollectionsMarshal.AsSpan(values));

    /// <summary>
    /// An [n] tensor of values that <paramref name="fill"/> writes, into memory that is used again.
    /// </summary>
    /// <param name="arena">Where the tensor is taken.</param>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="count">Number n of values.</param>
    /// <param name="state">Handed to <paramref name="fill"/>.</param>
    /// <param name="fill">Writes every value.</param>
    /// <typeparam name="T">float or int, the type of the tensor.</typeparam>
    /// <typeparam name="TState">Of the state.</typeparam>
    public static Tensor Upload<T, TState>(
        this Arena arena, IKernels kernels, int count, TState state, SpanAction<T, TState> fill) where T : unmanaged
    {
        T[] values = ArrayPool<T>.Shared.Rent(count);
        try
        {
            Span<T> used = values.AsSpan(0, count);
            fill(used, state);
            return Upload(arena, kernels, (ReadOnlySpan<T>)used, typeof(T) == typeof(int) ? DType.Int32 : DType.Float32);
        }
        finally
        {
            ArrayPool<T>.Shared.Return(values);
        }
    }

    /// <summary>Int32 [n]: 0, 1, ... n - 1.</summary>
    public static Tensor UploadRange(this Arena arena, IKernels kernels, int count) =>
        arena.Upload<int, int>(kernels, count, 0, static (values, _) =>
        {
            for (int i = 0; i < values.Length; i++)
            {
                values[i] = i;
            }
        });

    private static Tensor Upload<T>(Arena arena, IKernels kernels, ReadOnlySpan<T> values, DType dtype) where T : unmanaged
    {
        Tensor tensor = arena.Allocate(values.Length, dtype);
        kernels.Upload(values, tensor);
        return tensor;
    }
}
