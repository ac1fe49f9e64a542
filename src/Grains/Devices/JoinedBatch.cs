using Krewe.Model.Kernels;
using Krewe.Model.Layers;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Devices;

/// <summary>
/// Work of several expert grains in one launch: it waits until the announced number has joined, then runs once for all
/// of them, in order of layer and index.
/// </summary>
/// <param name="id">Number on this device.</param>
/// <param name="count">How many experts were announced.</param>
/// <param name="device">Where it runs.</param>
/// <param name="work">What runs.</param>
/// <param name="priority">When it runs.</param>
/// <param name="after">What must have ended before it is submitted, whoever has joined; or null.</param>
public sealed class JoinedBatch(
    long id, int count, IDevice device, Action<IKernels, Expert[]> work, WorkPriority priority, Task? after = null)
{
    private readonly Lock _lock = new();
    private readonly Expert[] _experts = new Expert[count];
    private readonly TaskCompletionSource _submitted = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _launched = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _done = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _joined;

    /// <summary>Number on this device.</summary>
    public long Id { get; } = id;

    /// <summary>Completes when the launch was submitted: the device runs later work behind it.</summary>
    public Task Submitted => _submitted.Task;

    /// <summary>Completes when the device's thread has launched it: what it leaves in fields and arenas is there.</summary>
    public Task Launched => _launched.Task;

    /// <summary>Completes when the launch is done.</summary>
    public Task Done => _done.Task;

    /// <summary>Adds an expert; the last one starts the launch.</summary>
    public void Join(Expert expert)
    {
        lock (_lock)
        {
            if (_joined == _experts.Length || Array.IndexOf(_experts, expert, 0, _joined) >= 0)
            {
                throw new InvalidOperationException(
                    $"expert {expert.Layer}/{expert.Index} joined batch {Id} of {_experts.Length} twice, or nobody expected it");
            }

            _experts[_joined++] = expert;
            if (_joined < _experts.Length)
            {
                return;
            }
        }

        Array.Sort(_experts, (a, b) => (a.Layer, a.Index).CompareTo((b.Layer, b.Index)));
        _ = LaunchAsync();
    }

    private async Task LaunchAsync()
    {
        try
        {
            if (after is not null)
            {
                await after;
            }

            (Task launched, Task done) = device.Launch(kernels => work(kernels, _experts), priority);
            _submitted.SetResult();
            await launched;
            _launched.SetResult();
            await done;
            _done.SetResult();
        }
        catch (Exception exception)
        {
            // Whatever the launch threw belongs to those who wait for it.
            _ = _submitted.TrySetException(exception);
            _ = _launched.TrySetException(exception);
            _done.SetException(exception);
        }
    }
}
