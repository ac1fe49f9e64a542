using Krewe.Grains.Devices;
using Krewe.Grains.Interfaces.Pipeline;
using Xunit;

namespace Krewe.Grains.Tests.Devices;

/// <summary>Which calls a silo lets in, and when the next attempt begins.</summary>
public class StepGateTests
{
    [Fact]
    public async Task A_new_attempt_cancels_the_old_one_and_waits_for_its_end()
    {
        using var gate = new StepGate("test");
        Assert.True(await gate.BeginAsync(1));
        StepGate.Entry running = gate.Enter(1);
        Task<bool> next = gate.BeginAsync(2);
        Assert.True(running.Abandoned.IsCancellationRequested);
        Assert.False(next.IsCompleted);
        Assert.Throws<StaleAttemptException>(() => gate.Enter(1));

        running.Dispose();
        Assert.True(await next);
        using StepGate.Entry entry = gate.Enter(2);
        Assert.False(entry.Abandoned.IsCancellationRequested);
        Assert.False(await gate.BeginAsync(2));
        await Assert.ThrowsAsync<StaleAttemptException>(() => gate.BeginAsync(1));
    }

    [Fact]
    public async Task What_goes_on_behind_a_call_keeps_its_attempt_from_ending()
    {
        using var gate = new StepGate("test");
        await gate.BeginAsync(1);
        StepGate.Entry call = gate.Enter(1);
        Task<bool> next = gate.BeginAsync(2);
        StepGate.Entry behind = call.Again();
        call.Dispose();
        Assert.False(next.IsCompleted);
        Assert.True(behind.Abandoned.IsCancellationRequested);

        behind.Dispose();
        Assert.True(await next);
    }

    [Fact]
    public void Weight_gradients_take_turns_by_slot_whoever_asks_first()
    {
        var queue = new WeightQueue();
        queue.Reset(0);
        Assert.True(queue.Add(1, null));
        Assert.False(queue.TryTake(out _));
        Assert.True(queue.Add(0, null));
        Assert.False(queue.Add(2, null));
        Assert.True(queue.TryTake(out _));
        Assert.True(queue.TryTake(out _));
        Assert.True(queue.TryTake(out _));
        Assert.False(queue.TryTake(out _));
        Assert.Equal((3, 0), (queue.Next, queue.Waiting));
        Assert.Throws<InvalidOperationException>(() => queue.Add(2, null));
    }
}
