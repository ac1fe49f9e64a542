using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.TestSupport;

/// <summary>Another device that counts what was made to be repeated; what is repeated runs as the other has it.</summary>
/// <param name="inner">Does everything; disposed by whoever made it.</param>
public sealed class RepeatCountingDevice(IDevice inner) : IDevice
{
    private int _made;

    /// <summary>Calls of <see cref="Repeat"/> so far.</summary>
    public int Made => Volatile.Read(ref _made);

    public string Name => inner.Name;

    public IKernels Kernels => inner.Kernels;

    public string MemorySpace => inner.MemorySpace;

    public long ReservedBytes => inner.ReservedBytes;

    public DeviceLoss Loss => inner.Loss;

    public Arena CreateArena(string name) => inner.CreateArena(name);

    public Arena CreateHostArena(string name) => inner.CreateHostArena(name);

    public Task SubmitAsync(Action<IKernels> work, WorkPriority priority = default) => inner.SubmitAsync(work, priority);

    public Task SubmitAsync<TState>(Action<IKernels, TState> work, TState state, WorkPriority priority = default) =>
        inner.SubmitAsync(work, state, priority);

    public RepeatedWork Repeat(Action<IKernels> work)
    {
        Interlocked.Increment(ref _made);
        return inner.Repeat(work);
    }

    public void Dispose()
    {
    }
}
