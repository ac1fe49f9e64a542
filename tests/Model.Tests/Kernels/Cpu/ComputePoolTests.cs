using Krewe.Model.Kernels.Cpu;
using Xunit;

namespace Krewe.Model.Tests.Kernels.Cpu;

public sealed class ComputePoolTests
{
    private readonly unsafe struct CountLoop(int* hits) : ILoop
    {
        public void Run(int index) => Interlocked.Increment(ref hits[index]);
    }

    private readonly struct FailingLoop(int failing) : ILoop
    {
        public void Run(int index)
        {
            if (index == failing)
            {
                throw new KreweException($"part {index}");
            }
        }
    }

    private readonly unsafe struct NestedLoop(ComputePool pool, nint hits, int width) : ILoop
    {
        public void Run(int index) => pool.For(width, new CountLoop((int*)hits + (index * width)));
    }

    /// <summary>Passes only if two threads are inside it at once.</summary>
    private readonly struct MeetingLoop(Barrier barrier) : ILoop
    {
        public void Run(int index) => Assert.True(barrier.SignalAndWait(TimeSpan.FromSeconds(30)));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(8)]
    public async Task Thousands_of_small_loops_run_every_part_once(int threads)
    {
        using ComputePool pool = new(threads);
        for (int repeat = 0; repeat < 3; repeat++)
        {
            await pool.RunAsync(() => Loops(pool, 3000));
        }

        Loops(pool, 3000);
    }

    private static unsafe void Loops(ComputePool pool, int loops)
    {
        int* hits = stackalloc int[40];
        for (int loop = 0; loop < loops; loop++)
        {
            int count = loop % 40;
            new Span<int>(hits, 40).Clear();
            pool.For(count, new CountLoop(hits));
            for (int i = 0; i < 40; i++)
            {
                Assert.Equal(i < count ? 1 : 0, hits[i]);
            }
        }
    }

    [Fact]
    public async Task Loops_of_several_jobs_at_once_lose_nothing()
    {
        using ComputePool pool = new(3);
        Task[] jobs = [.. Enumerable.Range(0, 12).Select(_ => pool.RunAsync(() => Loops(pool, 1000)))];
        Loops(pool, 1000);
        await Task.WhenAll(jobs);
    }

    [Fact]
    public async Task An_idle_thread_helps_the_master()
    {
        using ComputePool pool = new(2);
        using Barrier barrier = new(2);
        await pool.RunAsync(() => pool.For(2, new MeetingLoop(barrier)));
    }

    [Fact]
    public async Task No_wakeup_is_lost_between_spinning_and_parking()
    {
        // Each loop ends only if the helper comes; the pauses end where it spins, where it parks, and in between.
        using ComputePool pool = new(2);
        using Barrier barrier = new(2);
        await pool.RunAsync(() =>
        {
            for (int i = 0; i < 3000; i++)
            {
                pool.For(2, new MeetingLoop(barrier));
                Thread.SpinWait(i * 37 % 3000);
            }
        });
        for (int i = 0; i < 500; i++)
        {
            await pool.RunAsync(() => pool.For(2, new MeetingLoop(barrier)));
        }
    }

    [Fact]
    public async Task Two_jobs_run_at_the_same_time()
    {
        using ComputePool pool = new(2);
        using Barrier barrier = new(2);
        Task first = pool.RunAsync(() => Assert.True(barrier.SignalAndWait(TimeSpan.FromSeconds(30))));
        Task second = pool.RunAsync(() => Assert.True(barrier.SignalAndWait(TimeSpan.FromSeconds(30))));
        await Task.WhenAll(first, second);
    }

    [Fact]
    public async Task A_fault_of_a_part_reaches_the_job_and_spoils_nothing_after_it()
    {
        using ComputePool pool = new(2);
        for (int i = 0; i < 200; i++)
        {
            int failing = i % 10;
            KreweException error = await Assert.ThrowsAsync<KreweException>(
                () => pool.RunAsync(() => pool.For(10, new FailingLoop(failing))));
            Assert.Equal($"part {failing}", error.Message);
        }

        await pool.RunAsync(() => Loops(pool, 100));
    }

    [Fact]
    public async Task A_loop_within_a_loop_runs_in_place()
    {
        using ComputePool pool = new(2);
        int[] hits = new int[20 * 5];
        await pool.RunAsync(() => Nested(pool, hits));
        Assert.All(hits, hit => Assert.Equal(1, hit));
    }

    private static unsafe void Nested(ComputePool pool, int[] hits)
    {
        fixed (int* address = hits)
        {
            pool.For(20, new NestedLoop(pool, (nint)address, 5));
        }
    }

    [Fact]
    public async Task A_loop_allocates_nothing()
    {
        using ComputePool pool = new(2);
        long bytes = await Allocated(pool);
        Assert.Equal(0, bytes);
    }

    private static async Task<long> Allocated(ComputePool pool)
    {
        long bytes = -1;
        for (int warm = 0; warm < 2; warm++)
        {
            await pool.RunAsync(() => bytes = AllocatedByLoops(pool));
        }

        return bytes;
    }

    private static unsafe long AllocatedByLoops(ComputePool pool)
    {
        int* hits = stackalloc int[16];
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++)
        {
            pool.For(16, new CountLoop(hits));
        }

        return GC.GetAllocatedBytesForCurrentThread() - before;
    }

    [Fact]
    public async Task Dispose_ends_the_threads_after_the_submitted_jobs()
    {
        ComputePool pool = new(2);
        int done = 0;
        Task[] jobs = [.. Enumerable.Range(0, 100).Select(_ => pool.RunAsync(() => Interlocked.Increment(ref done)))];
        pool.Dispose();
        Assert.Equal(100, done);
        await Task.WhenAll(jobs);
        Assert.Throws<ObjectDisposedException>(() => { _ = pool.RunAsync(() => { }); });
    }

    [Fact]
    public async Task Pinned_threads_work_as_well()
    {
        using ComputePool pool = new(2, pin: true);
        await pool.RunAsync(() => Loops(pool, 200));
    }
}
