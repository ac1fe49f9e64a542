using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;

namespace Krewe.Gpu.Compilation;

/// <summary>Source text of kernels, the headers it may include, and the options it wants.</summary>
/// <param name="Name">File name, such as <c>Attention.cu</c>; stands in messages.</param>
/// <param name="Text">CUDA C++ without toolkit headers.</param>
/// <param name="Headers">Text of each header by the name that an <c>#include "..."</c> gives it.</param>
/// <param name="Options">Options beyond those of <see cref="CudaRuntimeCompiler"/>.</param>
public sealed partial record KernelSource(
    string Name, string Text, IReadOnlyDictionary<string, string> Headers, IReadOnlyList<string> Options)
{
    private const string Folder = "Kernels/";

    /// <summary>Source embedded in this assembly.</summary>
    /// <param name="path">Path below <c>src/Gpu/Kernels</c>, such as <c>Attention.cu</c>.</param>
    /// <param name="options">Options beyond those of <see cref="CudaRuntimeCompiler"/>.</param>
    /// <exception cref="ArgumentException">There is no such source, or it includes a header that is not embedded.
    /// </exception>
    public static KernelSource Embedded(string path, params IReadOnlyList<string> options)
    {
        string text = Read(path);
        var headers = new SortedDictionary<string, string>(StringComparer.Ordinal);
        AddHeaders(text, headers);
        return new(path, text, headers, options);
    }

    /// <summary>Paths of all embedded sources, below <c>src/Gpu/Kernels</c>, in order.</summary>
    public static IReadOnlyList<string> EmbeddedPaths { get; } = [.. Resources(".cu")];

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

    /// <summary>Adds what a text includes, and what that includes. A name is a path below the kernels' folder.</summary>
    private static void AddHeaders(string text, SortedDictionary<string, string> headers)
    {
        foreach (Match include in Include().Matches(text))
        {
            string name = include.Groups[1].Value;
            if (!headers.ContainsKey(name))
            {
                headers.Add(name, Read(name));
                AddHeaders(headers[name], headers);
            }
        }
    }

    private static IEnumerable<string> Resources(string suffix) =>
        typeof(KernelSource).Assembly.GetManifestResourceNames()
            .Where(name => name.StartsWith(Folder, StringComparison.Ordinal)
                && name.EndsWith(suffix, StringComparison.Ordinal))
            .Select(name => name[Folder.Length..]).Order(StringComparer.Ordinal);

    private static string Read(string path)
    {
        using Stream stream = typeof(KernelSource).Assembly.GetManifestResourceStream(Folder + path)
            ?? throw new ArgumentException($"no kernel source '{path}' in this assembly", nameof(path));
        using var reader = new StreamReader(stream, Encoding.UTF8);
        return reader.ReadToEnd();
    }

    [GeneratedRegex("^[ \\t]*#[ \\t]*include[ \\t]+\"([^\"]+)\"", RegexOptions.Multiline)]
    private static partial Regex Include();
}
