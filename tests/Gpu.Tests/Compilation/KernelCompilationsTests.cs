using System.Collections.Concurrent;
using Krewe.Gpu.Compilation;
using Xunit;

namespace Krewe.Gpu.Tests.Compilation;

public sealed class KernelCompilationsTests
{
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(30);

    [Fact]
    public void What_is_expected_is_compiled_on_threads_beside()
    {
        var made = new ConcurrentQueue<string>();
        using var both = new CountdownEvent(3);
        using var compilations = new KernelCompilations(
            variant =>
            {
                // Each waits for the other two: one thread alone would never end.
                both.Signal();
                Assert.True(both.Wait(Deadline));
                made.Enqueue(variant.Name);
                return [(byte)variant.File.Length];
            },
            _ => false, threads: 2);
        compilations.Expect([new("a", []), new("bb", ["-x"])]);
        Assert.Equal([3], compilations.Get(new("ccc", [])));
        Assert.Equal([1], compilations.Get(new("a", [])));
        Assert.Equal([2], compilations.Get(new("bb", ["-x"])));
        Assert.Equal(["a", "bb -x", "ccc"], made.Order());
    }

    [Fact]
    public void What_is_kept_is_not_made_before_it_is_asked_for()
    {
        int made = 0;
        using (var compilations = new KernelCompilations(
            _ =>
            {
                Interlocked.Increment(ref made);
                return [1];
            },
            _ => true, threads: 2))
        {
            compilations.Expect([new("a", []), new("b", [])]);
            Assert.Equal([1], compilations.Get(new("c", [])));
        }

        Assert.Equal(1, made);
    }

    [Fact]
    public void A_variant_that_does_not_compile_fails_who_asks_each_time()
    {
        using var compilations = new KernelCompilations(
            variant => throw new InvalidOperationException(variant.Name), _ => false, threads: 1);
        compilations.Expect([new("expected", [])]);
        Assert.Equal(
            "wrong", Assert.Throws<InvalidOperationException>(() => compilations.Get(new("wrong", []))).Message);
        Assert.Equal(
            "expected", Assert.Throws<InvalidOperationException>(() => compilations.Get(new("expected", []))).Message);
        Assert.Equal(
            "wrong", Assert.Throws<InvalidOperationException>(() => compilations.Get(new("wrong", []))).Message);
    }
}
