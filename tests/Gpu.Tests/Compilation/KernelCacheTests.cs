using Krewe.Gpu.Compilation;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Gpu.Tests.Compilation;

public sealed class KernelCacheTests
{
    private static readonly KernelSource Source = new(
        "Sample.cu", "text", new Dictionary<string, string> { ["a.cuh"] = "header" }, ["--option"]);

    [Fact]
    public void The_second_request_reads_the_file_of_the_first()
    {
        using var temporary = new TemporaryFolder();
        var cache = new KernelCache(temporary["kernels"]);
        int compiled = 0;
        byte[] Compile()
        {
            compiled++;
            return [1, 2, 3];
        }

        Assert.Equal([1, 2, 3], cache.GetOrAdd(Source, "hash", "sm_90a", Compile));
        Assert.Equal([1, 2, 3], new KernelCache(cache.Folder).GetOrAdd(Source, "hash", "sm_90a", Compile));
        Assert.Equal(1, compiled);
        Assert.Equal([Path.Combine(cache.Folder, "Sample-sm_90a-hash.cubin")], Directory.GetFiles(cache.Folder));
    }

    [Fact]
    public async Task What_several_ask_for_at_once_is_compiled_once()
    {
        using var temporary = new TemporaryFolder();
        using var go = new ManualResetEventSlim();
        using var begun = new SemaphoreSlim(0);
        int compiled = 0;
        byte[] Compile()
        {
            Interlocked.Increment(ref compiled);
            _ = begun.Release();
            go.Wait(TestContext.Current.CancellationToken);
            return [5];
        }

        Task<byte[]>[] devices = [.. Enumerable.Range(0, 4).Select(_ => Task.Factory.StartNew(
            () => new KernelCache(temporary["kernels"]).GetOrAdd(Source, "hash", "sm_90a", Compile),
            TestContext.Current.CancellationToken, TaskCreationOptions.LongRunning, TaskScheduler.Default))];
        await begun.WaitAsync(TestContext.Current.CancellationToken);
        go.Set();
        Assert.All(await Task.WhenAll(devices), cubin => Assert.Equal([5], cubin));
        Assert.Equal(1, compiled);
    }

    [Fact]
    public void Another_hash_or_architecture_is_another_file()
    {
        using var temporary = new TemporaryFolder();
        var cache = new KernelCache(temporary["kernels"]);
        Assert.Equal([1], cache.GetOrAdd(Source, "one", "sm_90a", () => [1]));
        Assert.Equal([2], cache.GetOrAdd(Source, "two", "sm_90a", () => [2]));
        Assert.Equal([3], cache.GetOrAdd(Source, "one", "sm_100a", () => [3]));
        Assert.Equal([1], cache.GetOrAdd(Source, "one", "sm_90a", () => [4]));
    }

    [Fact]
    public void A_folder_that_cannot_be_written_costs_compilation_alone()
    {
        using var temporary = new TemporaryFolder();
        string file = temporary["file"];
        File.WriteAllText(file, "");
        var cache = new KernelCache(Path.Combine(file, "below a file"));
        Assert.Equal([1], cache.GetOrAdd(Source, "hash", "sm_90a", () => [1]));
        Assert.Equal([2], cache.GetOrAdd(Source, "hash", "sm_90a", () => [2]));
    }

    [Fact]
    public void A_failed_compilation_leaves_nothing()
    {
        using var temporary = new TemporaryFolder();
        var cache = new KernelCache(temporary["kernels"]);
        Assert.Throws<KernelCompilationException>(() => cache.GetOrAdd(
            Source, "hash", "sm_90a", () => throw new KernelCompilationException(Source, "sm_90a", "log")));
        Assert.False(Directory.Exists(cache.Folder) && Directory.EnumerateFiles(cache.Folder).Any());
    }

    [Fact]
    public void The_hash_depends_on_all_that_the_compiler_sees()
    {
        string[] options = ["--x"];
        string hash = Source.Hash("nvrtc 13.0", options);
        Assert.Equal(hash, (Source with { }).Hash("nvrtc 13.0", options));
        Assert.NotEqual(hash, Source.Hash("nvrtc 13.1", options));
        Assert.NotEqual(hash, Source.Hash("nvrtc 13.0", ["--y"]));
        Assert.NotEqual(hash, Source.Hash("nvrtc 13.0", ["--", "x"]));
        Assert.NotEqual(hash, (Source with { Text = "texts" }).Hash("nvrtc 13.0", options));
        var headers = new Dictionary<string, string> { ["a.cuh"] = "other" };
        Assert.NotEqual(hash, (Source with { Headers = headers }).Hash("nvrtc 13.0", options));
    }

    [Theory]
    [InlineData("8.0", "13.0", "sm_80")]
    [InlineData("9.0", "13.0", "sm_90a")]
    [InlineData("9.0", "11.8", "sm_90")]
    [InlineData("12.0", "12.8", "sm_120a")]
    public void Kernels_are_compiled_for_the_card(string capability, string compiler, string architecture) =>
        Assert.Equal(architecture, CudaRuntimeCompiler.ArchitectureOf(new(capability), new(compiler)));
}
