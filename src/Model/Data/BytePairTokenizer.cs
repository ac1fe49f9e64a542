using System.Collections.Concurrent;
using System.Text;
using Krewe.Model.Data.Tokenization;
using Microsoft.ML.Tokenizers;

namespace Krewe.Model.Data;

/// <summary>
/// Byte-level BPE as in DeepSeek-V3's tokenizer.json, id for id what Hugging Face's tokenizers gives. The merges of a
/// word are Microsoft.ML.Tokenizers' work; cutting a text into words is Krewe's own, because that library matches
/// expressions against UTF-16 units where Hugging Face matches code points (see <see cref="PlaneFolding"/>) and knows
/// one pass of special tokens where a tokenizer.json has two. Known limit: a character that Unicode added lately may be
/// a letter to .NET and unassigned to the library that trained the vocabulary.
/// </summary>
public sealed class BytePairTokenizer : Tokenizer
{
    // Beyond this the library's quadratic merge costs more than the other's table.
    private const int LongWord = 2048;
    private const int CachedWordLength = 48;
    private const int CacheEntries = 1 << 17;

    private readonly TokenizerFile _file;
    private readonly BpeTokenizer _merges;
    private readonly Lazy<LongWordMerger> _longWords;
    private readonly AddedTokenFinder[] _addedTokens;
    private readonly byte[]?[] _bytes;
    private readonly HashSet<int> _specialIds;
    private readonly ConcurrentDictionary<string, int[]> _cache = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, int[]>.AlternateLookup<ReadOnlySpan<char>> _cacheBySpan;
    private int _cached;

    internal BytePairTokenizer(TokenizerFile file)
    {
        _file = file;
        _cacheBySpan = _cache.GetAlternateLookup<ReadOnlySpan<char>>();
        _addedTokens =
        [
            new(file.AddedTokens.Where(token => !token.Normalized)),
            new(file.AddedTokens.Where(token => token.Normalized)),
        ];
        _specialIds = [.. file.AddedTokens.Where(token => token.Special).Select(token => token.Id)];
        _bytes = CreateBytes(file);
        try
        {
            _merges = BpeTokenizer.Create(new BpeOptions(file.Vocabulary) { Merges = file.Merges, ByteLevel = true });
        }
        catch (Exception fault) when (fault is ArgumentException or InvalidOperationException or FormatException)
        {
            throw new KreweException($"tokenizer '{file.Path}': {fault.Message.ReplaceLineEndings(" ")}", fault);
        }

        _longWords = new(() => new(file.Vocabulary, file.Merges));
    }

    /// <inheritdoc/>
    public override string Name => Path.GetFileName(_file.Folder);

    /// <inheritdoc/>
    public override int VocabularySize => _bytes.Length;

    /// <inheritdoc/>
    public override int? BosId => _file.BosId;

    /// <inheritdoc/>
    public override int? EosId => _file.EosId;

    /// <inheritdoc/>
    /// <remarks>Lone surrogates, which UTF-8 cannot carry, are encoded as U+FFFD.</remarks>
    public override int[] Encode(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        var ids = new List<int>(text.Length / 3 + 1);
        EncodeBetweenAddedTokens(ToWellFormed(text), 0, ids);
        return [.. ids];
    }

    /// <inheritdoc/>
    public override ReadOnlySpan<byte> GetBytes(int id) => (uint)id < (uint)_bytes.Length ? _bytes[id] : [];

    /// <inheritdoc/>
    public override bool IsSpecial(int id) => _specialIds.Contains(id);

    /// <inheritdoc/>
    public override void Save(string folder)
    {
        string[] names = [Path.GetFileName(_file.Path), TokenizerConfig.FileName, "chat_template.jinja"];
        foreach (string name in names)
        {
            string source = Path.Combine(_file.Folder, name);
            string target = Path.GetFullPath(Path.Combine(folder, name == names[0] ? "tokenizer.json" : name));
            if (File.Exists(source) && source != target)
            {
                // Not File.Copy, which would carry a read-only mode over and make the next save fail.
                File.WriteAllBytes(target, File.ReadAllBytes(source));
            }
        }
    }

    /// <summary>The ids of one word by the long-word path; tests hold it against the other.</summary>
    internal List<int> EncodeLongWord(string word) => _longWords.Value.Encode(word);

    private void EncodeBetweenAddedTokens(ReadOnlySpan<char> text, int pass, List<int> ids)
    {
        if (pass == _addedTokens.Length)
        {
            EncodeText(text, ids);
            return;
        }

        while (_addedTokens[pass].TryFind(text, out int start, out AddedToken? token))
        {
            EncodeBetweenAddedTokens(text[..start], pass + 1, ids);
            ids.Add(token!.Id);
            text = text[(start + token.Content.Length)..];
        }

        EncodeBetweenAddedTokens(text, pass + 1, ids);
    }

    private void EncodeText(ReadOnlySpan<char> text, List<int> ids)
    {
        int start = 0;
        foreach (int end in _file.PreTokenizer.GetWordEnds(text))
        {
            EncodeWord(text[start..end], ids);
            start = end;
        }
    }

    private void EncodeWord(ReadOnlySpan<char> word, List<int> ids)
    {
        if (word.Length > LongWord)
        {
            ids.AddRange(_longWords.Value.Encode(word));
        }
        else if (word.Length > CachedWordLength)
        {
            ids.AddRange(Merge(word));
        }
        else if (_cacheBySpan.TryGetValue(word, out int[]? known))
        {
            ids.AddRange(known);
        }
        else
        {
            int[] wordIds = [.. Merge(word)];
            ids.AddRange(wordIds);
            if (_cached < CacheEntries && _cacheBySpan.TryAdd(word, wordIds))
            {
                Interlocked.Increment(ref _cached);
            }
        }
    }

    private IReadOnlyList<int> Merge(ReadOnlySpan<char> word) =>
        _merges.EncodeToIds(word, considerPreTokenization: false, considerNormalization: false);

    private static string ToWellFormed(string text)
    {
        if (!text.AsSpan().ContainsAnyInRange('\uD800', '\uDFFF'))
        {
            return text;
        }

        var wellFormed = new StringBuilder(text.Length);
        foreach (Rune rune in text.EnumerateRunes())
        {
            wellFormed.Append(rune.ToString());
        }

        return wellFormed.ToString();
    }

    private static byte[]?[] CreateBytes(TokenizerFile file)
    {
        int largest = file.Vocabulary.Values.Concat(file.AddedTokens.Select(token => token.Id)).Append(-1).Max();
        var bytes = new byte[]?[largest + 1];
        foreach ((string token, int id) in file.Vocabulary)
        {
            bytes[id] = ByteAlphabet.GetBytes(token);
        }

        foreach (AddedToken token in file.AddedTokens)
        {
            bytes[token.Id] = ByteAlphabet.GetBytes(token.Content);
        }

        return bytes;
    }
}
