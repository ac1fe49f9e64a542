using Krewe.Model.Tensors;

namespace Krewe.Grains.Devices.Channel;

/// <summary>
/// One <see cref="TensorChannel.ReceiveAsync"/> that waits. The inbox's lock guards it, except for <see cref="Done"/>.
/// </summary>
internal sealed class PendingReceive(TensorTicket ticket, Tensor target, long deadline)
{
    private readonly TaskCompletionSource<Tensor> _done = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Exception? _abandoned;

    /// <summary>What is awaited.</summary>
    public TensorTicket Ticket { get; } = ticket;

    /// <summary>The caller's tensor.</summary>
    public Tensor Target { get; } = target;

    /// <summary>Timestamp at which it fails.</summary>
    public long Deadline { get; } = deadline;

    /// <summary>True while somebody writes to <see cref="Target"/>: only then may the caller not have it back.</summary>
    public bool IsFilling { get; set; }

    /// <summary>The connection that reads into <see cref="Target"/>, if one does.</summary>
    public IncomingConnection? Filler { get; set; }

    /// <summary>Why the caller no longer waits; the filler stops at its next step and completes with it.</summary>
    public Exception? Abandoned
    {
        get => Volatile.Read(ref _abandoned);
        set => Volatile.Write(ref _abandoned, value);
    }

    /// <summary>Completes with the tensor.</summary>
    public Task<Tensor> Done => _done.Task;

    /// <summary>Hands the tensor over, or says why there is none. The first call counts.</summary>
    public void Complete(Exception? failure)
    {
        if (failure is OperationCanceledException canceled)
        {
            _done.TrySetCanceled(canceled.CancellationToken);
        }
        else if (failure is not null)
        {
            _done.TrySetException(failure);
        }
        else
        {
            _done.TrySetResult(Target);
        }
    }
}
