using Krewe.Model.Kernels;
using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Tensors;
using Xunit;

namespace Krewe.Model.Tests.Tensors;

/// <summary>Which work of a device goes first.</summary>
public class WorkQueueTests
{
    private static readonly WorkPriority Normal = WorkPriority.Normal;
    private static readonly WorkPriority Background = WorkPriority.Background;

    [Fact]
    public void Later_normal_work_passes_background_work_and_each_kind_keeps_its_order()
    {
        var queue = new WorkQueue<string>();
        foreach ((string work, WorkPriority priority) in (ReadOnlySpan<(string, WorkPriority)>)
            [("w0", Background), ("f0", Normal), ("w1", Background), ("f1", Normal), ("w2", Background)])
        {
            queue.Enqueue(work, priority);
        }

        Assert.Equal(5, queue.Count);
        Assert.Equal(["f0", "f1", "w0"], Take(queue, 3));
        queue.Enqueue("f2", Normal);
        Assert.Equal(["f2", "w1", "w2"], Take(queue, 3));
        Assert.Throws<InvalidOperationException>(() => queue.Dequeue());
    }

    [Fact]
    public void Background_work_is_passed_a_bounded_number_of_times()
    {
        var queue = new WorkQueue<int>();
        queue.Enqueue(-1, Background);
        queue.Enqueue(-2, Background);
        int normal = 0;
        queue.Enqueue(normal, Normal);
        for (int oldest = -1; oldest >= -2; oldest--)
        {
            for (int i = 0; i < WorkQueue<int>.MaxOvertaking; i++)
            {
                queue.Enqueue(normal + 1, Normal);
                Assert.Equal(normal++, queue.Dequeue());
            }

            Assert.Equal(oldest, queue.Dequeue());
        }

        Assert.Equal([normal], Take(queue, 1));
    }

    [Fact]
    public void Background_work_runs_behind_all_that_was_submitted_before_it()
    {
        const int before = WorkQueue<int>.MaxOvertaking + 10;
        var queue = new WorkQueue<int>();
        for (int i = 0; i < before; i++)
        {
            queue.Enqueue(i, Normal);
        }

        queue.Enqueue(-1, Background);

        Assert.Equal([.. Enumerable.Range(0, before), -1], Take(queue, before + 1));
    }

    [Fact]
    public void The_operation_that_was_begun_first_goes_first()
    {
        var queue = new WorkQueue<string>();
        queue.Enqueue("second, block 0", WorkPriority.Of(2));
        queue.Enqueue("first, block 0", WorkPriority.Of(1));
        queue.Enqueue("weights", Background);
        queue.Enqueue("second, block 1", WorkPriority.Of(2));
        queue.Enqueue("first, block 1", WorkPriority.Of(1));

        Assert.Equal(
            ["first, block 0", "first, block 1", "second, block 0", "second, block 1", "weights"], Take(queue, 5));
    }

    [Fact]
    public void Background_work_does_not_pass_a_high_turn_that_was_submitted_before_it()
    {
        var queue = new WorkQueue<int>();
        queue.Enqueue(-2, WorkPriority.Of(9));
        queue.Enqueue(-1, Background);
        for (int i = 0; i < WorkQueue<int>.MaxOvertaking + 10; i++)
        {
            queue.Enqueue(i, Normal);
            Assert.Equal(i, queue.Dequeue());
        }

        Assert.Equal([-2, -1], Take(queue, 2));
    }

    [Fact]
    public async Task A_device_fills_its_waits_with_background_work()
    {
        using var pool = new ComputePool(1);
        using var device = new CpuDevice(pool, "cpu:0");
        using var held = new ManualResetEventSlim();
        var order = new List<string>();
        Task first = device.SubmitAsync(_ => held.Wait(TestContext.Current.CancellationToken));
        Task[] all =
        [
            device.SubmitAsync(_ => order.Add("w0"), Background),
            device.SubmitAsync(_ => order.Add("f0")),
            device.SubmitAsync(static (IKernels _, List<string> list) => list.Add("w1"), order, Background),
            device.SubmitAsync(static (IKernels _, List<string> list) => list.Add("f1"), order),
        ];

        held.Set();
        await first;
        await Task.WhenAll(all);

        Assert.Equal(["f0", "f1", "w0", "w1"], order);
    }

    private static T[] Take<T>(WorkQueue<T> queue, int count) =>
        [.. Enumerable.Range(0, count).Select(_ => queue.Dequeue())];
}
