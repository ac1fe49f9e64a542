using Krewe.Gpu.Compilation;
using Krewe.Gpu.Driver;

namespace Krewe.Gpu.Kernels;

/// <summary>
/// Kernels of one context by source file, options and name. A file is loaded when its first kernel is asked for. What the cache
/// has not of the sources without options, and of what <see cref="Expect"/> names, is compiled ahead on threads beside.
/// </summary>
internal sealed class KernelLibrary : IDisposable
{
    /// <summary>Of a file that is of no use without options; its header says which.</summary>
    private const string NeedsOptions = "#ifndef KREWE_";

    private static readonly Lazy<KernelVariant[]> _whole = new(() =>
        [.. KernelSource.EmbeddedPaths.Where(IsWhole).Select(path => new KernelVariant(path, []))]);

    private readonly CudaRuntimeCompiler _compiler;
    private readonly KernelCache _cache;
    private readonly Dictionary<string, CudaModule> _modules = new(StringComparer.Ordinal);
    private readonly KernelCompilations _compilations;

    /// <summary>No kernels yet.</summary>
    /// <param name="compiler">For the context's device.</param>
    /// <param name="cache">Where machine code is kept.</param>
    public KernelLibrary(CudaRuntimeCompiler compiler, KernelCache cache)
    {
        _compiler = compiler;
        _cache = cache;
        // One core for who submits, one for the rest of the program.
        _compilations = new(
            variant => cache.GetOrCompile(SourceOf(variant), compiler),
            variant => cache.Keeps(SourceOf(variant), compiler),
            Math.Max(0, Environment.ProcessorCount - 2));
        _compilations.Expect(_whole.Value);
    }

    /// <summary>A kernel.</summary>
    /// <param name="file">Path of its source below <c>src/Gpu/Kernels</c>.</param>
    /// <param name="name">Its name.</param>
    /// <param name="options">Options of the compiler that make a variant of the file; none for most.</param>
    public CudaKernel Kernel(string file, string name, params IReadOnlyList<string> options)
    {
        var variant = new KernelVariant(file, options);
        if (!_modules.TryGetValue(variant.Name, out CudaModule? module))
        {
            module = Load(variant);
            _modules.Add(variant.Name, module);
        }

        return module.Kernel(name);
    }

    /// <summary>Says which variants of a file will likely be asked for soon.</summary>
    /// <param name="file">Path of its source below <c>src/Gpu/Kernels</c>.</param>
    /// <param name="options">Options of each variant.</param>
    public void Expect(string file, params IEnumerable<IReadOnlyList<string>> options) =>
        _compilations.Expect(options.Select(variant => new KernelVariant(file, variant)));

    /// <inheritdoc/>
    public void Dispose()
    {
        _compilations.Dispose();
        foreach (CudaModule module in _modules.Values)
        {
            module.Dispose();
        }

        _modules.Clear();
    }

    /// <summary>Loads machine code; what the driver does not take, a damaged file of the cache, is made anew once.</summary>
    private CudaModule Load(KernelVariant variant)
    {
        try
        {
            return new(variant.Name, _compilations.Get(variant));
        }
        catch (CudaException exception) when (
            exception.Code is CudaResult.InvalidImage or CudaResult.NoBinaryForGpu or CudaResult.InvalidSource)
        {
            KernelSource source = SourceOf(variant);
            _cache.Drop(source, _compiler);
            return new(variant.Name, _cache.GetOrCompile(source, _compiler));
        }
    }

    private static KernelSource SourceOf(KernelVariant variant) => KernelSource.Embedded(variant.File, variant.Options);

    private static bool IsWhole(string path)
    {
        KernelSource source = KernelSource.Embedded(path);
        return !source.Text.Contains(NeedsOptions, StringComparison.Ordinal)
            && !source.Headers.Values.Any(text => text.Contains(NeedsOptions, StringComparison.Ordinal));
    }
}
