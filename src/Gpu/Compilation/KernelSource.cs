using System.Security.Cryptography;
using System.Text;

namespace Krewe.Gpu.Compilation;

/// <summary>Source text of kernels, the headers it may include, and the options it wants.</summary>
/// <param name="Name">File name, such as <c>Attention.cu</c>; stands in messages.</param>
/// <param name="Text">CUDA C++ without toolkit headers.</param>
/// <param name="Headers">Text of each header by the name that an <c>#include "..."</c> gives it.</param>
/// <param name="Options">Options beyond those of <see cref="CudaRuntimeCompiler"/>.</param>
public sealed record KernelSource(
    string Name, string Text, IReadOnlyDictionary<string, string> Headers, IReadOnlyList<string> Options)
{
    private const string Folder = "Kernels/";

    /// <summary>Source embedded in this assembly.</summary>
    /// <param name="path">Path below <c>src/Gpu/Kernels</c>, such as <c>Attention.cu</c>.</param>
    /// <param name="options">Options beyond those of <see cref="CudaRuntimeCompiler"/>.</param>
    public static KernelSource Embedded(string path, params IReadOnlyList<string> options) =>
        new(path, Read(Folder + path), EmbeddedHeaders.Value, options);

    /// <summary>Paths of all embedded sources, below <c>src/Gpu/Kernels</c>, in order.</summary>
    public static IReadOnlyList<string> EmbeddedPaths { get; } = [.. Resources(".cu")];

    private static Lazy<IReadOnlyDictionary<string, string>> EmbeddedHeaders { get; } = new(
        () => Resources(".cuh").ToDictionary(path => path, path => Read(Folder + path), StringComparer.Ordinal));

    /// <summary>Hash of all that decides what the compiler writes, as hexadecimal digits.</summary>
    /// <param name="compiler">Compiler and its version.</param>
    /// <param name="options">All options.</param>
    public string Hash(string compiler, IEnumerable<string> options)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Append(hash, compiler);
        Append(hash, Text);
        foreach (string option in options)
        {
            Append(hash, option);
        }

        foreach ((string name, string text) in Headers.OrderBy(header => header.Key, StringComparer.Ordinal))
        {
            Append(hash, name);
            Append(hash, text);
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    /// <summary>Length first, so that no two lists of parts run together to the same bytes.</summary>
    private static void Append(IncrementalHash hash, string part)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(part);
        hash.AppendData(BitConverter.GetBytes(bytes.Length));
        hash.AppendData(bytes);
    }

    private static IEnumerable<string> Resources(string suffix) =>
        typeof(KernelSource).Assembly.GetManifestResourceNames()
            .Where(name => name.StartsWith(Folder, StringComparison.Ordinal)
                && name.EndsWith(suffix, StringComparison.Ordinal))
            .Select(name => name[Folder.Length..]).Order(StringComparer.Ordinal);

    private static string Read(string name)
    {
        using Stream stream = typeof(KernelSource).Assembly.GetManifestResourceStream(name)
            ?? throw new ArgumentException($"no kernel source '{name}' in this assembly", nameof(name));
        using var reader = new StreamReader(stream, Encoding.UTF8);
        return reader.ReadToEnd();
    }
}
