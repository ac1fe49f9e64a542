using Krewe.Model.Kernels;

namespace Krewe.Model.Tensors;

/// <summary>
/// One accelerator or one CPU share: its memory, its kernels, its thread. Work is submitted and awaited; the caller's
/// thread never computes, so an Orleans turn never blocks (docs/ARCHITECTURE.md, section 3).
/// </summary>
public interface IDevice : IDisposable
{
    /// <summary>Memory that the host reads and writes as its own.</summary>
    const string HostSpace = "host";

    /// <summary>Name within the machine, such as <c>cpu:0</c>.</summary>
    string Name { get; }

    /// <summary>The kernels of this device. Call them only from inside submitted work.</summary>
    IKernels Kernels { get; }

    /// <summary>
    /// Which memory its tensors lie in. Devices of one space reach each other's tensors; <see cref="HostSpace"/> is the
    /// host's own.
    /// </summary>
    string MemorySpace { get; }

    /// <summary>Bytes that arenas of this device hold at present.</summary>
    long ReservedBytes { get; }

    /// <summary>
    /// Most bytes of its own memory that were in use at one time, the kernels' passing results among them; 0 where the
    /// device keeps no count.
    /// </summary>
    long PeakBytes => 0;

    /// <summary>
    /// Published rate of its bfloat16 matrix products, operations a second, a multiply-add being two; 0 where none is known.
    /// </summary>
    double BFloat16Rate => 0;

    /// <summary>
    /// Whether the device is lost. Once that is reported, every submission fails with
    /// <see cref="DeviceLostException"/>, those that wait included, and arenas get no more memory; disposing it and
    /// what it made stays possible.
    /// </summary>
    DeviceLoss Loss { get; }

    /// <summary>Makes an empty arena on this device.</summary>
    /// <param name="name">What lives there; error messages and the memory report show it.</param>
    Arena CreateArena(string name);

    /// <summary>
    /// Makes an empty arena in host memory that this device copies from and to fast; an ordinary one where the device
    /// computes in host memory.
    /// </summary>
    /// <param name="name">What lives there.</param>
    Arena CreateHostArena(string name);

    /// <summary>
    /// Runs <paramref name="work"/> on the device's thread, one piece at a time in the order of
    /// <see cref="WorkQueue{T}"/>, and completes when its kernels are done. An exception of the work becomes the task's.
    /// </summary>
    /// <param name="work">The work.</param>
    /// <param name="priority">
    /// <see cref="WorkPriority.Background"/> for what may wait, and for what must run behind all that was submitted
    /// before, such as freeing memory; <see cref="WorkPriority.Of"/> for an operation of a schedule.
    /// </param>
    Task SubmitAsync(Action<IKernels> work, WorkPriority priority = default);

    /// <summary>As the other overload, with state instead of a closure, for the hot path.</summary>
    Task SubmitAsync<TState>(
        Action<IKernels, TState> work, TState state, WorkPriority priority = default);

    /// <summary>
    /// Copies a tensor from another device's memory to this one's, without the host's between them, where the two
    /// devices can do that.
    /// </summary>
    /// <param name="source">Whose memory <paramref name="from"/> lies in.</param>
    /// <param name="from">Its values are there: no work that writes it is under way. Its rows may have gaps.</param>
    /// <param name="to">On this device, dense, of the same shape and type.</param>
    /// <returns>Completes with the copy; null where values go by way of the host.</returns>
    Task? TryCopyFrom(IDevice source, Tensor from, Tensor to) => null;

    /// <summary>Makes work that runs many times over the same tensors; a device may record it.</summary>
    /// <param name="work">Calls the kernels: see <see cref="RepeatedWork"/> for what it must not do.</param>
    RepeatedWork Repeat(Action<IKernels> work) => new CalledWork(this, work);
}
