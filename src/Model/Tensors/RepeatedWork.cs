using Krewe.Model.Kernels;

namespace Krewe.Model.Tensors;

/// <summary>
/// Work that a device runs again and again: the same kernels over the same tensors, whose values change. A device may
/// record the kernels and launch them as one. Runs come one after the other.
/// </summary>
/// <remarks>
/// The work neither reads values for the host nor uploads any, and takes the same memory each time: what it takes from an
/// arena, it takes behind a reset of that arena.
/// </remarks>
public abstract class RepeatedWork : IDisposable
{
    /// <summary>Runs it, or several times in a row; completes when everything is done.</summary>
    /// <param name="before">Runs ahead of it in the same submission: writes what it reads.</param>
    /// <param name="after">Runs behind it in the same submission: reads what it wrote.</param>
    /// <param name="times">How often, at least once: each run reads what the one before has left.</param>
    /// <param name="priority">As of <see cref="IDevice.SubmitAsync(Action{IKernels}, WorkPriority)"/>.</param>
    public abstract Task RunAsync(
        Action<IKernels> before, Action<IKernels> after, int times = 1, WorkPriority priority = default);

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Forgets what was recorded; no run is under way.</summary>
    /// <param name="disposing">False from a finaliser.</param>
    protected virtual void Dispose(bool disposing)
    {
    }
}

/// <summary>Work that is called anew in every run.</summary>
/// <param name="device">Where.</param>
/// <param name="work">Calls the kernels.</param>
internal sealed class CalledWork(IDevice device, Action<IKernels> work) : RepeatedWork
{
    /// <inheritdoc/>
    public override Task RunAsync(
        Action<IKernels> before, Action<IKernels> after, int times = 1, WorkPriority priority = default) =>
        device.SubmitAsync(
            static (kernels, run) =>
            {
                run.Before(kernels);
                for (int i = 0; i < run.Times; i++)
                {
                    run.Work(kernels);
                }

                run.After(kernels);
            },
            (Before: before, Work: work, After: after, Times: times), priority);
}
