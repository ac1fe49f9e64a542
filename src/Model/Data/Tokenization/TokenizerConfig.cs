using System.Text.Json;

namespace Krewe.Model.Data.Tokenization;

/// <summary>
/// Reads a Hugging Face <c>tokenizer_config.json</c>, which names the first and last token of a text.
/// </summary>
internal static class TokenizerConfig
{
    public const string FileName = "tokenizer_config.json";

    /// <summary>What families of models call the first token, for folders without a tokenizer_config.json.</summary>
    public static readonly string[] UsualBos = ["<｜begin▁of▁sentence｜>", "<|begin_of_text|>", "<s>", "<|startoftext|>"];

    /// <summary>What families of models call the last token.</summary>
    public static readonly string[] UsualEos = ["<｜end▁of▁sentence｜>", "<|end_of_text|>", "<|endoftext|>", "</s>"];

    /// <summary>The first and last token's text; null where the config does not say.</summary>
    public static (string? Bos, string? Eos) ReadEnds(string folder)
    {
        using JsonDocument? config = TryRead(folder);
        return config is null ? (null, null) : (TokenText(config, "bos_token"), TokenText(config, "eos_token"));
    }

    /// <summary>The config of a folder, or null if it has none.</summary>
    /// <exception cref="KreweException">The file is no JSON object.</exception>
    public static JsonDocument? TryRead(string folder)
    {
        string file = Path.Combine(folder, FileName);
        if (!File.Exists(file))
        {
            return null;
        }

        try
        {
            JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(file));
            return document.RootElement.ValueKind == JsonValueKind.Object
                ? document
                : throw new KreweException($"'{file}' is no JSON object");
        }
        catch (Exception fault) when (fault is JsonException or IOException or UnauthorizedAccessException)
        {
            throw new KreweException($"'{file}' cannot be read: {fault.Message.ReplaceLineEndings(" ")}", fault);
        }
    }

    /// <summary>A token's text, which is written as a string or as an object with <c>content</c>.</summary>
    public static string? TokenText(JsonDocument config, string key)
    {
        if (!config.RootElement.TryGetProperty(key, out JsonElement value))
        {
            return null;
        }

        return value.ValueKind switch
        {
            JsonValueKind.String => value.GetString(),
            JsonValueKind.Object when value.TryGetProperty("content", out JsonElement content) => content.GetString(),
            _ => null,
        };
    }
}
