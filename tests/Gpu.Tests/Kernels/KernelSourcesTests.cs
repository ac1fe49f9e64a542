using Krewe.Gpu.Compilation;
using Krewe.Gpu.Driver;
using Xunit;

namespace Krewe.Gpu.Tests.Kernels;

/// <summary>Every embedded source compiles without the toolkit's headers. Needs NVRTC, but no card.</summary>
public sealed class KernelSourcesTests
{
    public static TheoryData<string> Sources() => [.. KernelSource.EmbeddedPaths];

    [Theory]
    [MemberData(nameof(Sources))]
    public void It_compiles(string path)
    {
        CudaFindings found = CudaProbe.Run();
        Assert.SkipWhen(found.Nvrtc is null, "needs NVRTC, which this machine has not");
        var compiler = new CudaRuntimeCompiler(new(9, 0));
        byte[] cubin = compiler.Compile(KernelSource.Embedded(path));
        Assert.Equal("\u007fELF"u8, cubin.AsSpan(0, 4));
    }

    [Fact]
    public void A_fault_is_shown_with_its_line()
    {
        CudaFindings found = CudaProbe.Run();
        Assert.SkipWhen(found.Nvrtc is null, "needs NVRTC, which this machine has not");
        var compiler = new CudaRuntimeCompiler(new(9, 0));
        var source = new KernelSource(
            "Wrong.cu", "// first line\nextern \"C\" __global__ void wrong() { missing = 1; }\n",
            new Dictionary<string, string>(), []);
        KernelCompilationException exception =
            Assert.Throws<KernelCompilationException>(() => compiler.Compile(source));
        Assert.StartsWith(
            "kernel source Wrong.cu does not compile for sm_90a: Wrong.cu(2): error: ", exception.Message,
            StringComparison.Ordinal);
        Assert.Contains(
            "     2 | extern \"C\" __global__ void wrong() { missing = 1; }", exception.Message,
            StringComparison.Ordinal);
        Assert.Contains("missing", exception.Log, StringComparison.Ordinal);
    }

    [Fact]
    public void Headers_are_found_through_each_other()
    {
        KernelSource source = KernelSource.Embedded("Attention/Attention.cu");
        Assert.Equal(["Attention/AttentionTiles.cuh", "Tensors.cuh"], source.Headers.Keys);
        Assert.Throws<ArgumentException>(() => KernelSource.Embedded("Absent.cu"));
    }

    [Fact]
    public void No_source_includes_a_header_of_the_toolkit() => Assert.All(
        KernelSource.EmbeddedPaths,
        path =>
        {
            KernelSource source = KernelSource.Embedded(path);
            foreach (string line in source.Text.Split('\n').Where(IsInclude))
            {
                Assert.Contains(source.Headers.Keys, name => line.Contains($"\"{name}\"", StringComparison.Ordinal));
            }
        });

    private static bool IsInclude(string line) => line.StartsWith("#include", StringComparison.Ordinal);
}
