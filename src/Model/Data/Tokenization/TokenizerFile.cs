using System.Text.Json;

namespace Krewe.Model.Data.Tokenization;

/// <summary>
/// The parts of a Hugging Face <c>tokenizer.json</c> that Krewe needs. Whatever would change the ids and is not
/// supported is an error here: a tokenizer that is nearly right trains a model that nobody else can use.
/// </summary>
internal sealed class TokenizerFile
{
    private TokenizerFile(string path) => Path = path;

    /// <summary>Full path of the tokenizer.json.</summary>
    public string Path { get; }

    /// <summary>The folder that holds it.</summary>
    public string Folder => System.IO.Path.GetDirectoryName(Path)!;

    public required IReadOnlyDictionary<string, int> Vocabulary { get; init; }

    /// <summary>Pairs "left right" in the order of their rank.</summary>
    public required IReadOnlyList<string> Merges { get; init; }

    public required IReadOnlyList<AddedToken> AddedTokens { get; init; }

    public required PreTokenizer PreTokenizer { get; init; }

    public int? BosId { get; private init; }

    public int? EosId { get; private init; }

    /// <summary>Reads a file, or the tokenizer.json of a folder.</summary>
    public static TokenizerFile Read(string path)
    {
        string file = System.IO.Path.GetFullPath(
            Directory.Exists(path) ? System.IO.Path.Combine(path, "tokenizer.json") : path);
        if (!File.Exists(file))
        {
            throw new KreweException($"no tokenizer at '{file}'; give a tokenizer.json or the folder that holds one");
        }

        try
        {
            using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(file));
            return Read(file, document.RootElement);
        }
        catch (Exception fault) when (fault is JsonException or InvalidOperationException or KeyNotFoundException
            or FormatException or IOException or UnauthorizedAccessException)
        {
            throw new KreweException(
                $"tokenizer '{file}' cannot be read: {fault.Message.ReplaceLineEndings(" ")}", fault);
        }
    }

    private static TokenizerFile Read(string file, JsonElement root)
    {
        JsonElement model = root.GetProperty("model");
        CheckModel(file, model);
        CheckNormalizer(file, root);
        if (root.TryGetProperty("decoder", out JsonElement decoder) && TypeOf(decoder) is not (null or "ByteLevel"))
        {
            throw Unsupported(file, $"decoder '{TypeOf(decoder)}'", "ByteLevel");
        }

        List<AddedToken> added = ReadAddedTokens(file, root);
        (string? bos, string? eos) = TokenizerConfig.ReadEnds(System.IO.Path.GetDirectoryName(file)!);
        return new(file)
        {
            Vocabulary = ReadVocabulary(model.GetProperty("vocab")),
            Merges = [.. model.GetProperty("merges").EnumerateArray().Select(ReadMerge)],
            AddedTokens = added,
            PreTokenizer = PreTokenizerReader.Read(file, root),
            BosId = FindId(added, bos, TokenizerConfig.UsualBos),
            EosId = FindId(added, eos, TokenizerConfig.UsualEos),
        };
    }

    private static void CheckModel(string file, JsonElement model)
    {
        if (TypeOf(model) is { } type and not "BPE")
        {
            throw Unsupported(file, $"model type '{type}'", "BPE");
        }

        foreach (string flag in (string[])["byte_fallback", "ignore_merges"])
        {
            if (model.TryGetProperty(flag, out JsonElement value) && value.ValueKind == JsonValueKind.True)
            {
                throw Unsupported(file, $"'{flag}' of the BPE model", "byte-level BPE without it");
            }
        }

        foreach (string affix in (string[])["continuing_subword_prefix", "end_of_word_suffix"])
        {
            if (model.TryGetProperty(affix, out JsonElement value) && value.ValueKind == JsonValueKind.String &&
                value.GetString() != "")
            {
                throw Unsupported(file, $"'{affix}' of the BPE model", "byte-level BPE without it");
            }
        }
    }

    private static void CheckNormalizer(string file, JsonElement root)
    {
        if (!root.TryGetProperty("normalizer", out JsonElement normalizer) || TypeOf(normalizer) is not { } type)
        {
            return;
        }

        if (type != "Sequence" || normalizer.GetProperty("normalizers").GetArrayLength() > 0)
        {
            throw Unsupported(file, $"normalizer '{type}'", "none");
        }
    }

    private static List<AddedToken> ReadAddedTokens(string file, JsonElement root)
    {
        var tokens = new List<AddedToken>();
        if (!root.TryGetProperty("added_tokens", out JsonElement list) || list.ValueKind == JsonValueKind.Null)
        {
            return tokens;
        }

        foreach (JsonElement entry in list.EnumerateArray())
        {
            string content = entry.GetProperty("content").GetString()!;
            foreach (string flag in (string[])["single_word", "lstrip", "rstrip"])
            {
                if (IsSet(entry, flag))
                {
                    throw Unsupported(file, $"'{flag}' of the added token '{content}'", "added tokens without it");
                }
            }

            tokens.Add(new(entry.GetProperty("id").GetInt32(), content, IsSet(entry, "special"),
                IsSet(entry, "normalized")));
        }

        return tokens;
    }

    private static Dictionary<string, int> ReadVocabulary(JsonElement vocabulary)
    {
        var ids = new Dictionary<string, int>(140_000, StringComparer.Ordinal);
        foreach (JsonProperty entry in vocabulary.EnumerateObject())
        {
            ids[entry.Name] = entry.Value.GetInt32();
        }

        return ids;
    }

    // Files before 2024 write "left right", later ones ["left", "right"]; byte-level tokens never hold a space.
    private static string ReadMerge(JsonElement merge) =>
        merge.ValueKind == JsonValueKind.Array ? $"{merge[0].GetString()} {merge[1].GetString()}" : merge.GetString()!;

    private static bool IsSet(JsonElement entry, string flag) =>
        entry.TryGetProperty(flag, out JsonElement value) && value.ValueKind == JsonValueKind.True;

    private static int? FindId(List<AddedToken> tokens, string? configured, IEnumerable<string> usual) =>
        (configured is null ? usual : [configured])
            .Select(name => tokens.Find(token => token.Content == name)?.Id)
            .FirstOrDefault(id => id is not null);

    internal static string? TypeOf(JsonElement element) =>
        element.ValueKind == JsonValueKind.Object && element.TryGetProperty("type", out JsonElement type)
            ? type.GetString()
            : null;

    internal static KreweException Unsupported(string file, string what, string supported) =>
        new($"tokenizer '{file}': {what} is not supported (supported: {supported})");
}
