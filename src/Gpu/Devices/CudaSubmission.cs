using System.Runtime.CompilerServices;
using Krewe.Gpu.Driver;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Devices;

/// <summary>
/// What one submitted work needs until its kernels are done: room for what they read from the host, the record of a
/// bad index, and the mark behind its last kernel. Reused; <see cref="CudaDevice"/> has a fixed number of them.
/// </summary>
internal sealed unsafe class CudaSubmission : IDisposable
{
    /// <summary>Lists of products take half a kilobyte for each weight of a layer.</summary>
    private const int StagingBytes = 2 << 20;

    /// <summary>Largest tensor that goes through page-locked memory, which is kept from work to work.</summary>
    private const long MostPageLockedBytes = 16L << 20;

    private readonly CudaStream _stream;
    private readonly CudaEvent _done = new();
    private readonly StagingBuffer _staging;
    private readonly List<StagingBuffer> _oversize = [];
    private readonly PageLockedArena _hostRoom;
    private readonly List<HostArena> _largeRooms = [];
    private readonly List<(string Name, int Columns)> _arguments = [];
    private StagingPiece _fault;
    private CudaStream? _copies;
    private CudaSubmission? _watched;
    private bool _faultIsClear;

    /// <summary>Room on the device of <paramref name="stream"/>, and on the host.</summary>
    public CudaSubmission(CudaContext context, CudaStream stream, DeviceLoss loss, int stagingBytes = StagingBytes)
    {
        _staging = new(stagingBytes);
        _stream = stream;
        _hostRoom = new("values between host and device", context, loss);
        Begin();
    }

    /// <summary>Device address of this submission's <see cref="KernelFault"/>.</summary>
    public nint Fault => _fault.Device;

    /// <summary>
    /// Starts over. The record of a bad index is cleared behind what the stream holds, unless the last work has left it so.
    /// </summary>
    public void Begin()
    {
        _oversize.ForEach(buffer => buffer.Dispose());
        _oversize.Clear();
        _arguments.Clear();
        _largeRooms.ForEach(arena => arena.Dispose());
        _largeRooms.Clear();
        _hostRoom.Reset();
        _staging.Reset();
        _watched = null;
        _fault = Take(sizeof(KernelFault));
        if (!_faultIsClear)
        {
            ClearFault();
        }

        _faultIsClear = false;
    }

    /// <summary>
    /// Starts over as what recorded kernels need: what goes to the device goes now, by <paramref name="copies"/>, and stays.
    /// </summary>
    public void BeginRecording(CudaStream copies)
    {
        Begin();
        _copies = copies;
    }

    /// <summary>Clears the record of a bad index behind what the stream holds.</summary>
    public void ClearFault() => _stream.Fill(_fault.Device, 0, _fault.Bytes);

    /// <summary>Also reports the bad index of recorded kernels that were launched in this work.</summary>
    public void Watch(CudaSubmission recorded) => _watched = recorded;

    /// <summary>Numbers an argument whose values a kernel checks.</summary>
    public int Number(string name, int columns)
    {
        _arguments.Add((name, columns));
        return _arguments.Count;
    }

    /// <summary>Room for values that kernels read or write.</summary>
    public StagingPiece Take(int bytes)
    {
        if (!_staging.TryTake(bytes, out StagingPiece piece))
        {
            var buffer = new StagingBuffer(bytes);
            _oversize.Add(buffer);
            _ = buffer.TryTake(bytes, out piece);
        }

        return piece;
    }

    /// <summary>Copies host values to the device, behind what the stream holds; gives their address there.</summary>
    /// <param name="values">The values.</param>
    /// <param name="constant">
    /// True where no kernel changes them: a recording then has them for good, and need not bring them anew in every run.
    /// </param>
    public nint Upload<T>(ReadOnlySpan<T> values, bool constant = false) where T : unmanaged
    {
        if (values.IsEmpty)
        {
            return 0;
        }

        StagingPiece piece = Take(checked(values.Length * Unsafe.SizeOf<T>()));
        values.CopyTo(new Span<T>((void*)piece.Host, values.Length));
        if (_copies is null)
        {
            piece.ToDevice(_stream);
            return piece.Device;
        }

        piece.ToDevice(_copies);
        if (constant)
        {
            return piece.Device;
        }

        StagingPiece changing = Take(piece.Bytes);
        _stream.Copy(piece.Device, changing.Device, piece.Bytes);
        return changing.Device;
    }

    /// <summary>Host memory for a copy to or from the device, until the work is done.</summary>
    public Tensor TakeHostRoom(TensorShape shape, DType dtype)
    {
        if (_copies is not null)
        {
            throw new InvalidOperationException("repeated work neither reads values for the host nor uploads any");
        }

        if (shape.Count * dtype.SizeInBytes() <= MostPageLockedBytes)
        {
            return _hostRoom.Allocate(shape, dtype);
        }

        var arena = new HostArena("a large tensor on its way");
        _largeRooms.Add(arena);
        return arena.Allocate(shape, dtype);
    }

    /// <summary>Waits for the kernels submitted so far.</summary>
    /// <exception cref="ArgumentException">One of them met a bad index: what the others wrote means nothing.</exception>
    public void Synchronize()
    {
        FetchFault();
        _stream.Synchronize();
        if (BadIndex() is { } badIndex)
        {
            throw badIndex;
        }
    }

    /// <summary>Sets the mark behind everything submitted.</summary>
    public void End()
    {
        FetchFault();
        _done.Record(_stream);
    }

    /// <summary>Sleeps until the kernels are done and gives the first bad index they met, or null.</summary>
    /// <exception cref="CudaException">A kernel went wrong.</exception>
    public ArgumentException? Wait()
    {
        _done.Synchronize();
        ArgumentException? badIndex = BadIndex();
        _faultIsClear = badIndex is null;
        return badIndex;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _oversize.ForEach(buffer => buffer.Dispose());
        _largeRooms.ForEach(arena => arena.Dispose());
        _hostRoom.Dispose();
        _staging.Dispose();
        _done.Dispose();
    }

    /// <summary>Copies the record of a bad index to the host, behind what the stream holds.</summary>
    public void FetchFault()
    {
        if (_arguments.Count > 0)
        {
            _fault.ToHost(_stream);
        }
    }

    private ArgumentException? BadIndex() =>
        _arguments.Count > 0 && *(KernelFault*)_fault.Host is { Argument: > 0 } fault
            ? fault.ToException(_arguments[fault.Argument - 1])
            : _watched?.BadIndex();
}
