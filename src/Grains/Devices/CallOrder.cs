namespace Krewe.Grains.Devices;

/// <summary>
/// Lets the calls of a step to a rank begin in the order in which the coordinator made them. Two calls that are on their
/// way at once may arrive in either order, and a device that begins with the second lets other ranks wait for the first.
/// </summary>
internal sealed class CallOrder
{
    private readonly Lock _lock = new();
    private readonly Dictionary<int, TaskCompletionSource> _early = [];
    private (long Attempt, long Step) _of = (-1, -1);
    private int _next;

    /// <summary>Ends when all calls with a lower turn have begun.</summary>
    /// <param name="call">The call; the first of a step or attempt forgets the ones before.</param>
    /// <param name="abandoned">Ends the wait.</param>
    public async ValueTask EnterAsync(StepCall call, CancellationToken abandoned)
    {
        if (WaitFor(call) is { } earlier)
        {
            await earlier.WaitAsync(abandoned);
        }

        lock (_lock)
        {
            _next = call.Turn + 1;
            if (_early.Remove(_next, out TaskCompletionSource? following))
            {
                following.SetResult();
            }
        }
    }

    /// <summary>Null where it is the call's turn.</summary>
    private Task? WaitFor(StepCall call)
    {
        lock (_lock)
        {
            if (_of != (call.Attempt, call.Step))
            {
                (_of, _next) = ((call.Attempt, call.Step), 0);
                _early.Clear();
            }

            if (call.Turn <= _next)
            {
                return null;
            }

            var early = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            _early[call.Turn] = early;
            return early.Task;
        }
    }
}
