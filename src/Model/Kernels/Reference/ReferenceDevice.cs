using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Reference;

/// <summary>
/// A device without a thread: submitted work of any priority runs inline, before
/// <see cref="SubmitAsync(Action{IKernels}, WorkPriority)"/> returns. For tests of layers and for reading along in a debugger.
/// </summary>
public sealed class ReferenceDevice : IDevice
{
    private readonly Lock _turn = new();
    private readonly List<HostArena> _arenas = [];

    /// <inheritdoc/>
    public string Name => "reference";

    /// <inheritdoc/>
    public IKernels Kernels { get; } = new ReferenceKernels();

    /// <inheritdoc/>
    public string MemorySpace => IDevice.HostSpace;

    /// <inheritdoc/>
    public long ReservedBytes
    {
        get
        {
            lock (_turn)
            {
                return _arenas.Sum(arena => arena.ReservedBytes);
            }
        }
    }

    /// <inheritdoc/>
    public DeviceLoss Loss { get; } = new("reference");

    /// <inheritdoc/>
    public Arena CreateArena(string name)
    {
        var arena = new HostArena(name);
        lock (_turn)
        {
            _arenas.Add(arena);
        }

        return arena;
    }

    /// <inheritdoc/>
    public Arena CreateHostArena(string name) => CreateArena(name);

    /// <inheritdoc/>
    public Task SubmitAsync(Action<IKernels> work, WorkPriority priority = default)
        => SubmitAsync(static (kernels, action) => action(kernels), work, priority);

    /// <inheritdoc/>
    public Task SubmitAsync<TState>(
        Action<IKernels, TState> work, TState state, WorkPriority priority = default)
    {
        ArgumentNullException.ThrowIfNull(work);
        try
        {
            Loss.ThrowIfLost();
            lock (_turn)
            {
                work(Kernels, state);
            }

            return Task.CompletedTask;
        }
        catch (Exception exception)
        {
            return Task.FromException(exception);
        }
    }

    /// <summary>Frees every arena it made.</summary>
    public void Dispose()
    {
        lock (_turn)
        {
            _arenas.ForEach(arena => arena.Dispose());
            _arenas.Clear();
        }
    }
}
