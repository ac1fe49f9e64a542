using System.Collections.Concurrent;

namespace Krewe.Gpu.Compilation;

/// <summary>
/// Compiled kernels on disk, one file each under the hash of source, headers, options and compiler. A file is written
/// beside its place and moved there, so that a reader never sees half of one; a folder that cannot be written costs
/// compilation at each start and nothing else. What several devices of a process ask for at once is compiled once.
/// </summary>
/// <param name="folder">Where the files lie; made when the first is written.</param>
public sealed class KernelCache(string folder)
{
    /// <summary>Environment variable that names the folder.</summary>
    public const string FolderVariable = "KREWE_KERNEL_CACHE";

    /// <summary>What this process compiles at present, by file.</summary>
    private static readonly ConcurrentDictionary<string, Lazy<byte[]>> _compiling = new(StringComparer.Ordinal);

    /// <summary>Where the files lie.</summary>
    public string Folder { get; } = folder;

    /// <summary>The cache of this user: the folder that <see cref="FolderVariable"/> names, or one of the system's
    /// choice.</summary>
    public static KernelCache OfThisUser() =>
        new(Environment.GetEnvironmentVariable(FolderVariable) is { Length: > 0 } named
            ? named
            : Path.Combine(
                Environment.GetFolderPath(
                    Environment.SpecialFolder.LocalApplicationData, Environment.SpecialFolderOption.DoNotVerify),
                "krewe", "kernels"));

    /// <summary>The machine code of a source: from disk, or compiled and kept.</summary>
    /// <exception cref="KernelCompilationException">The source is wrong.</exception>
    public byte[] GetOrCompile(KernelSource source, CudaRuntimeCompiler compiler) =>
        GetOrAdd(
            source, source.Hash(compiler.Name, compiler.OptionsFor(source)), compiler.Architecture,
            () => compiler.Compile(source));

    /// <summary>Whether the machine code of a source is on disk.</summary>
    public bool Keeps(KernelSource source, CudaRuntimeCompiler compiler) =>
        File.Exists(PathOf(source, source.Hash(compiler.Name, compiler.OptionsFor(source)), compiler.Architecture));

    /// <summary>The file of this key, or what <paramref name="compile"/> gives, kept.</summary>
    internal byte[] GetOrAdd(KernelSource source, string hash, string architecture, Func<byte[]> compile)
    {
        string path = PathOf(source, hash, architecture);
        if (TryRead(path) is { } cached)
        {
            return cached;
        }

        Lazy<byte[]> compiling = _compiling.GetOrAdd(path, new Lazy<byte[]>(() =>
        {
            // Another may have written it since the look above.
            if (TryRead(path) is { } written)
            {
                return written;
            }

            byte[] cubin = compile();
            TryWrite(path, cubin);
            return cubin;
        }));
        try
        {
            return compiling.Value;
        }
        finally
        {
            _ = _compiling.TryRemove(new(path, compiling));
        }
    }

    /// <summary>Drops the machine code of a source: what lies there is damaged.</summary>
    public void Drop(KernelSource source, CudaRuntimeCompiler compiler) =>
        TryDelete(PathOf(source, source.Hash(compiler.Name, compiler.OptionsFor(source)), compiler.Architecture));

    private string PathOf(KernelSource source, string hash, string architecture) =>
        Path.Combine(Folder, $"{Path.GetFileNameWithoutExtension(source.Name)}-{architecture}-{hash}.cubin");

    private static byte[]? TryRead(string path)
    {
        try
        {
            return File.Exists(path) && File.ReadAllBytes(path) is { Length: > 0 } bytes ? bytes : null;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private void TryWrite(string path, byte[] cubin)
    {
        string temporary = $"{path}.{Guid.NewGuid():n}";
        try
        {
            Directory.CreateDirectory(Folder);
            File.WriteAllBytes(temporary, cubin);
            File.Move(temporary, path, overwrite: true);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            TryDelete(temporary);
        }
    }

    private static void TryDelete(string path)
    {
        try
        {
            File.Delete(path);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            // Nothing was kept, and nothing can be.
        }
    }
}
