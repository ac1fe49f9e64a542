using System.Buffers;
using System.Runtime.InteropServices;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels;

/// <summary>The transfers of <see cref="IKernels"/> where kernels compute in host memory.</summary>
internal static unsafe class HostTransfers
{
    /// <summary>As Upload of the contract.</summary>
    public static void Upload<T>(ReadOnlySpan<T> values, Tensor destination) where T : unmanaged
    {
        ReadOnlySpan<byte> bytes = MemoryMarshal.AsBytes(values);
        KernelChecks.Upload(bytes.Length, destination);
        bytes.CopyTo(new Span<byte>((void*)destination.Address, bytes.Length));
    }

    /// <summary>As Write of the contract.</summary>
    public static void Write<TState>(Tensor destination, TState state, SpanAction<float, TState> fill)
    {
        KernelChecks.Dense(destination);
        fill(destination.AsSpan<float>(), state);
    }

    /// <summary>As Read of the contract.</summary>
    public static ReadOnlySpan<T> Read<T>(Tensor source) where T : unmanaged
    {
        KernelChecks.Dense(source);
        return source.AsSpan<T>();
    }

    /// <summary>As Transfer of the contract.</summary>
    public static void Transfer(Tensor source, Tensor destination)
    {
        KernelChecks.Transfer(source, destination);
        Buffer.MemoryCopy((void*)source.Address, (void*)destination.Address, destination.Bytes, source.Bytes);
    }
}
