using Krewe.Gpu.Compilation;
using Krewe.Gpu.Driver;

namespace Krewe.Gpu.Kernels;

/// <summary>Kernels of one context by source file and name. A file is compiled, or read from the cache, when its first
/// kernel is asked for.</summary>
/// <param name="compiler">For the context's device.</param>
/// <param name="cache">Where machine code is kept.</param>
internal sealed class KernelLibrary(CudaRuntimeCompiler compiler, KernelCache cache) : IDisposable
{
    private readonly Dictionary<string, CudaModule> _modules = new(StringComparer.Ordinal);

    /// <summary>A kernel.</summary>
    /// <param name="file">Path of its source below <c>src/Gpu/Kernels</c>.</param>
    /// <param name="name">Its name.</param>
    /// <param name="options">Of the compiler, where the source has variants.</param>
    public CudaKernel Kernel(string file, string name, params IReadOnlyList<string> options)
    {
        string key = options.Count == 0 ? file : $"{file} {string.Join(' ', options)}";
        if (!_modules.TryGetValue(key, out CudaModule? module))
        {
            module = new(file, cache.GetOrCompile(KernelSource.Embedded(file, options), compiler));
            _modules.Add(key, module);
        }

        return module.Kernel(name);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (CudaModule module in _modules.Values)
        {
            module.Dispose();
        }

        _modules.Clear();
    }
}
