using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Krewe.Model.Data.Corpora;

namespace Krewe.Model.Data;

/// <summary>
/// Documents to train on, in a fixed order. A document is the unit that is shuffled, ends with the end-of-text token,
/// and is held out whole.
/// </summary>
public sealed class TextCorpus
{
    private readonly Lazy<string> _contentHash;

    /// <summary>A corpus of texts in memory.</summary>
    /// <param name="name">Name for messages and logs.</param>
    /// <param name="documents">The texts; empty and white ones are left out.</param>
    /// <param name="notice">One line that the user should see, or null.</param>
    /// <exception cref="KreweException">There is no text.</exception>
    public TextCorpus(string name, IEnumerable<string> documents, string? notice = null)
    {
        Name = name;
        Notice = notice;
        Documents = [.. documents.Where(document => !string.IsNullOrWhiteSpace(document))];
        if (Documents.Count == 0)
        {
            throw new KreweException($"no text in '{name}'");
        }

        _contentHash = new(() => Hash(Documents));
    }

    /// <summary>Name for messages and logs.</summary>
    public string Name { get; }

    /// <summary>The texts in their fixed order; at least one.</summary>
    public IReadOnlyList<string> Documents { get; }

    /// <summary>
    /// One line that the user should see, such as that a stand-in is used; null where all is as expected.
    /// </summary>
    public string? Notice { get; }

    /// <summary>
    /// SHA-256 (lower-case hexadecimal) over the documents and their order: equal exactly when the text is. A resumed
    /// run compares it and refuses other data.
    /// </summary>
    public string ContentHash => _contentHash.Value;

    /// <summary>
    /// Reads what <c>--data</c> names. A text file is one document, unless it holds end-of-text markers
    /// (<c>&lt;|endoftext|&gt;</c> or <c>&lt;｜end▁of▁sentence｜&gt;</c>), which separate documents; blank lines do not,
    /// since prose and code are full of them. A <c>.jsonl</c> file has one JSON string or object with <c>text</c> a
    /// line, a <c>.json</c> file an array of the same. A folder is read recursively: *.txt, *.md and *.jsonl in ordinal
    /// order of their relative paths.
    /// </summary>
    /// <exception cref="KreweException">Nothing there, unreadable, not UTF-8, a bad line, or no text.</exception>
    public static TextCorpus Open(string path) => CorpusReader.Open(path);

    /// <summary>
    /// What is trained on without <c>--data</c>: the documentation of the .NET SDK on this machine, or a small
    /// generated text with a <see cref="Notice"/> where there is no SDK.
    /// </summary>
    public static TextCorpus OpenDefault() =>
        DotNetDocsCorpus.TryOpen() ?? GeneratedCorpus.Create(notice:
            "no .NET SDK with reference documentation was found, so a small generated text is trained on; " +
            "give --data PATH, or set DOTNET_ROOT to the folder of an SDK");

    private static string Hash(IReadOnlyList<string> documents)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Span<byte> length = stackalloc byte[sizeof(int)];
        foreach (string document in documents)
        {
            BinaryPrimitives.WriteInt32LittleEndian(length, document.Length);
            hash.AppendData(length);
            hash.AppendData(MemoryMarshal.AsBytes(document.AsSpan()));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }
}
