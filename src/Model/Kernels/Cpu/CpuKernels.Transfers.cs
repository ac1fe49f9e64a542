using System.Buffers;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Cpu;

/// <content>Values for the host and from it, which reads and writes the same memory.</content>
public sealed unsafe partial class CpuKernels
{
    /// <inheritdoc/>
    public void Upload<T>(ReadOnlySpan<T> values, Tensor destination) where T : unmanaged =>
        HostTransfers.Upload(values, destination);

    /// <inheritdoc/>
    public void Write<TState>(Tensor destination, TState state, SpanAction<float, TState> fill) =>
        HostTransfers.Write(destination, state, fill);

    /// <inheritdoc/>
    public ReadOnlySpan<T> Read<T>(Tensor source) where T : unmanaged => HostTransfers.Read<T>(source);

    /// <inheritdoc/>
    public void Transfer(Tensor source, Tensor destination) => HostTransfers.Transfer(source, destination);

    /// <inheritdoc/>
    public void AppendTokens(Tensor chosen, Tensor history, Tensor next, Tensor ids, Tensor positions) =>
        HostDecoding.AppendTokens(chosen, history, next, ids, positions);
}
