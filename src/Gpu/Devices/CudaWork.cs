using Krewe.Gpu.Driver;
using Krewe.Gpu.Kernels;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Devices;

/// <summary>Work on its way through a <see cref="CudaDevice"/>, and its task.</summary>
internal abstract class CudaWork() : TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)
{
    private Exception? _failure;

    /// <summary>What the work needs while it runs.</summary>
    public CudaSubmission? Submission { get; set; }

    /// <summary>Calls the kernels, on the submitting thread; calls nothing of a device that is lost.</summary>
    public void Submit(CudaKernels kernels, DeviceLoss loss)
    {
#pragma warning disable CA1031 // The exception is the task's: it reaches whoever awaits the work.
        try
        {
            loss.ThrowIfLost();
            Submission!.Begin();
            kernels.Submission = Submission;
            Run(kernels);
            kernels.Complete();
        }
        catch (Exception exception)
        {
            Fail(exception, loss);
        }

        try
        {
            loss.ThrowIfLost();
            Submission!.End();
        }
        catch (Exception exception)
        {
            Fail(exception, loss);
        }
    }

    /// <summary>Waits for the kernels, on the completing thread; not for those of a device that is lost.</summary>
    public void Complete(DeviceLoss loss)
    {
        try
        {
            loss.ThrowIfLost();
            ArgumentException? badIndex = Submission!.Wait();
            _failure ??= badIndex;
        }
        catch (Exception exception)
        {
            Fail(exception, loss);
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

    /// <summary>The first fault counts, and the loss of the device before any that it led to.</summary>
    private void Fail(Exception exception, DeviceLoss loss)
    {
        Exception judged = LostDevice.Judge(loss, exception);
        _failure = judged is DeviceLostException ? judged : _failure ?? judged;
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
