using System.Text;
using System.Text.Json;

namespace Krewe.Model.Data.Corpora;

/// <summary>
/// Reads the files and folders that <c>--data</c> may name; <see cref="TextCorpus.Open"/> says which.
/// </summary>
internal static class CorpusReader
{
    private static readonly string[] _endOfTextMarkers = ["<|endoftext|>", "<｜end▁of▁sentence｜>"];
    private static readonly string[] _folderExtensions = [".txt", ".md", ".jsonl"];
    private static readonly UTF8Encoding _strictUtf8 = new(false, throwOnInvalidBytes: true);

    public static TextCorpus Open(string path)
    {
        string full = Path.GetFullPath(path);
        try
        {
            if (Directory.Exists(full))
            {
                return OpenFolder(full);
            }

            return File.Exists(full)
                ? new(Path.GetFileName(full), ReadFile(full))
                : throw new KreweException($"no training data at '{full}': neither a file nor a folder");
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            throw new KreweException($"training data '{full}' cannot be read: {fault.Message}", fault);
        }
    }

    private static TextCorpus OpenFolder(string folder)
    {
        var options = new EnumerationOptions { RecurseSubdirectories = true };
        string[] files = [.. Directory.EnumerateFiles(folder, "*", options)
            .Where(file => _folderExtensions.Contains(Path.GetExtension(file), StringComparer.OrdinalIgnoreCase))
            .OrderBy(file => Path.GetRelativePath(folder, file).Replace('\\', '/'), StringComparer.Ordinal)];
        return files.Length > 0
            ? new(Path.GetFileName(folder), files.SelectMany(ReadFile))
            : throw new KreweException($"no *.txt, *.md or *.jsonl under '{folder}'");
    }

    private static IEnumerable<string> ReadFile(string file) => Path.GetExtension(file).ToUpperInvariant() switch
    {
        ".JSONL" or ".NDJSON" => ReadJsonLines(file),
        ".JSON" => ReadJsonArray(file),
        _ => ReadText(file).Split(_endOfTextMarkers, StringSplitOptions.None),
    };

    private static IEnumerable<string> ReadJsonLines(string file)
    {
        int number = 0;
        foreach (string line in ReadText(file).Split('\n'))
        {
            number++;
            if (!string.IsNullOrWhiteSpace(line))
            {
                using JsonDocument document = Parse(line, $"'{file}' line {number}");
                yield return TextOf(document.RootElement, $"'{file}' line {number}");
            }
        }
    }

    private static IEnumerable<string> ReadJsonArray(string file)
    {
        using JsonDocument document = Parse(ReadText(file), $"'{file}'");
        if (document.RootElement.ValueKind != JsonValueKind.Array)
        {
            throw new KreweException($"'{file}' is no JSON array; one JSON object a line needs the extension .jsonl");
        }

        int index = 0;
        foreach (JsonElement element in document.RootElement.EnumerateArray())
        {
            yield return TextOf(element, $"'{file}' element {index++}");
        }
    }

    private static JsonDocument Parse(string json, string place)
    {
        try
        {
            return JsonDocument.Parse(json);
        }
        catch (JsonException fault)
        {
            throw new KreweException($"{place}: {fault.Message.ReplaceLineEndings(" ")}", fault);
        }
    }

    private static string TextOf(JsonElement element, string place)
    {
        JsonElement text = element;
        if (element.ValueKind == JsonValueKind.Object && !element.TryGetProperty("text", out text))
        {
            throw new KreweException($"{place}: the object has no \"text\"");
        }

        try
        {
            return text.ValueKind == JsonValueKind.String
                ? text.GetString()!
                : throw new KreweException($"{place}: expected a string or {{\"text\": ...}}, found {text.ValueKind}");
        }
        catch (InvalidOperationException fault)
        {
            throw new KreweException($"{place}: {fault.Message}", fault); // An escaped lone surrogate.
        }
    }

    private static string ReadText(string file)
    {
        try
        {
            // The reader takes UTF-16 and UTF-32 with a byte order mark as well.
            using var reader = new StreamReader(file, _strictUtf8);
            return reader.ReadToEnd();
        }
        catch (DecoderFallbackException fault)
        {
            throw new KreweException($"'{file}' is not UTF-8 text ({fault.Message})", fault);
        }
    }
}
