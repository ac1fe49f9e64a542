using System.Buffers;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels;

/// <content>
/// The way of values between the host and the memory that the kernels compute in, in the order of the calls. Where that
/// is host memory they cost no more than the host's own reading and writing.
/// </content>
public partial interface IKernels
{
    /// <summary>destination = values. They are taken before the call returns.</summary>
    /// <param name="values">As many bytes as the destination has.</param>
    /// <param name="destination">Dense, of any type and memory.</param>
    void Upload<T>(ReadOnlySpan<T> values, Tensor destination) where T : unmanaged;

    /// <summary>
    /// As <see cref="Upload"/>, from values that <paramref name="fill"/> writes: into the destination itself where the host
    /// can reach it. For large tensors, as of a checkpoint.
    /// </summary>
    /// <param name="destination">Dense, Float32.</param>
    /// <param name="state">Handed to <paramref name="fill"/>.</param>
    /// <param name="fill">Writes every value; called once, before this returns.</param>
    void Write<TState>(Tensor destination, TState state, SpanAction<float, TState> fill);

    /// <summary>
    /// The values of a tensor, for the host: waits for the kernels that were called so far, where they may still run. Good
    /// until the work ends; the tensor's own memory where the host can reach it.
    /// </summary>
    /// <param name="source">Dense.</param>
    ReadOnlySpan<T> Read<T>(Tensor source) where T : unmanaged;

    /// <summary>
    /// destination = source, bytes as they are, within a memory or between the host's and the device's. On the host, a
    /// source must not change, and a destination has the values, only once the work's task is done.
    /// </summary>
    /// <param name="source">Dense.</param>
    /// <param name="destination">Dense, of the same size.</param>
    void Transfer(Tensor source, Tensor destination);
}
