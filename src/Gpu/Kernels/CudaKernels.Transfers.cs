using System.Buffers;
using System.Runtime.InteropServices;
using Krewe.Gpu.Devices;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>Values for the host and from it: through page-locked memory, or staged by the driver where they are large.
/// </content>
internal sealed unsafe partial class CudaKernels
{
    private WritingRooms? _writing;

    /// <inheritdoc/>
    public void Upload<T>(ReadOnlySpan<T> values, Tensor destination) where T : unmanaged
    {
        ReadOnlySpan<byte> bytes = MemoryMarshal.AsBytes(values);
        KernelChecks.Upload(bytes.Length, destination);
        if (bytes.Length > 0)
        {
            Tensor room = Submission.TakeHostRoom(new(bytes.Length), DType.UInt8);
            bytes.CopyTo(room.AsSpan<byte>());
            _stream.Copy(room.Address, destination.Address, bytes.Length);
        }
    }

    /// <inheritdoc/>
    public void Write<TState>(Tensor destination, TState state, SpanAction<float, TState> fill)
    {
        KernelChecks.Dense(destination);
        if (destination.OnHost)
        {
            fill(destination.AsSpan<float>(), state);
            return;
        }

        if (destination.Bytes <= WritingRooms.MostBytes)
        {
            // Not the submission's room: a work may write a whole model.
            _writing ??= new(_context, _stream, _loss);
            Tensor taken = _writing.Take(destination.Shape);
            fill(taken.AsSpan<float>(), state);
            _writing.Copy(taken, destination);
            return;
        }

        using var arena = new HostArena($"values for {Name}");
        Tensor values = arena.Allocate(destination.Shape);
        fill(values.AsSpan<float>(), state);
        _stream.Copy(values.Address, destination.Address, values.Bytes);
        _stream.Synchronize();
    }

    /// <inheritdoc/>
    public ReadOnlySpan<T> Read<T>(Tensor source) where T : unmanaged
    {
        KernelChecks.Dense(source);
        if (source.OnHost)
        {
            return source.AsSpan<T>();
        }

        Tensor room = Submission.TakeHostRoom(source.Shape, source.DType);
        _stream.Copy(source.Address, room.Address, source.Bytes);
        Submission.Synchronize();
        return room.AsSpan<T>();
    }

    /// <inheritdoc/>
    public void Transfer(Tensor source, Tensor destination)
    {
        KernelChecks.Transfer(source, destination);
        _stream.Copy(source.Address, destination.Address, source.Bytes);
    }
}
