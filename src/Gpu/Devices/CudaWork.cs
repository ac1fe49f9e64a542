using Krewe.Gpu.Kernels;
using Krewe.Model.Kernels;

namespace Krewe.Gpu.Devices;

/// <summary>Work on its way through a <see cref="CudaDevice"/>, and its task.</summary>
internal abstract class CudaWork() : TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)
{
    private Exception? _failure;

    /// <summary>Completes when the kernels were handed to the stream; null where nobody asks.</summary>
    public TaskCompletionSource? Launched { get; init; }

    /// <summary>What the work needs while it runs.</summary>
    public CudaSubmission? Submission { get; set; }

    /// <summary>Calls the kernels, on the submitting thread.</summary>
    public void Submit(CudaKernels kernels)
    {
#pragma warning disable CA1031 // The exception is the task's: it reaches whoever awaits the work.
        try
        {
            Submission!.Begin();
            kernels.Submission = Submission;
            Run(kernels);
            kernels.Complete();
        }
        catch (Exception exception)
        {
            _failure = exception;
        }

        try
        {
            Submission!.End();
        }
        catch (Exception exception)
        {
            _failure ??= exception;
        }

        if (_failure is null)
        {
            Launched?.SetResult();
        }
        else
        {
            Launched?.SetException(_failure);
        }
    }

    /// <summary>Waits for the kernels, on the completing thread.</summary>
    public void Complete()
    {
        try
        {
            ArgumentException? badIndex = Submission!.Wait();
            _failure ??= badIndex;
        }
        catch (Exception exception)
        {
            _failure ??= exception;
        }
#pragma warning restore CA1031
    }

    /// <summary>Completes the task.</summary>
    public void Report()
    {
        if (_failure is null)
        {
            SetResult();
        }
        else
        {
            SetException(_failure);
        }
    }

    /// <summary>Calls the kernels.</summary>
    protected abstract void Run(IKernels kernels);
}

/// <summary>Work with its state.</summary>
internal sealed class CudaWork<TState>(Action<IKernels, TState> action, TState state) : CudaWork
{
    /// <inheritdoc/>
    protected override void Run(IKernels kernels) => action(kernels, state);
}
