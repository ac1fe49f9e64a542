using System.Text.Json;
using System.Text.RegularExpressions;

namespace Krewe.Model.Data.Tokenization;

/// <summary>Reads the <c>pre_tokenizer</c> of a tokenizer.json.</summary>
internal static class PreTokenizerReader
{
    public static PreTokenizer Read(string file, JsonElement root)
    {
        var expressions = new List<Regex>();
        bool byteLevel = false;
        if (root.TryGetProperty("pre_tokenizer", out JsonElement top))
        {
            Add(file, top, expressions, ref byteLevel);
        }

        return byteLevel
            ? new(expressions)
            : throw TokenizerFile.Unsupported(
                file, "a pre-tokenizer without ByteLevel", "Split, Digits, then ByteLevel");
    }

    private static void Add(string file, JsonElement part, List<Regex> expressions, ref bool byteLevel)
    {
        string? type = TokenizerFile.TypeOf(part);
        if (byteLevel)
        {
            throw TokenizerFile.Unsupported(file, $"pre-tokenizer '{type}' after ByteLevel", "ByteLevel last");
        }

        switch (type)
        {
            case null:
                break;
            case "Sequence":
                foreach (JsonElement inner in part.GetProperty("pretokenizers").EnumerateArray())
                {
                    Add(file, inner, expressions, ref byteLevel);
                }

                break;
            case "Split":
                // "invert" swaps matches and the text between them, which makes no difference where both are kept.
                if (part.GetProperty("behavior").GetString() is { } behavior and not "Isolated")
                {
                    throw TokenizerFile.Unsupported(file, $"Split behavior '{behavior}'", "Isolated");
                }

                JsonElement pattern = part.GetProperty("pattern");
                expressions.Add(Compile(file, pattern.TryGetProperty("Regex", out JsonElement regex)
                    ? regex.GetString()!
                    : Regex.Escape(pattern.GetProperty("String").GetString()!)));
                break;
            case "Digits":
                expressions.Add(Compile(
                    file, part.GetProperty("individual_digits").GetBoolean() ? @"\p{N}" : @"\p{N}+"));
                break;
            case "ByteLevel":
                if (part.GetProperty("add_prefix_space").GetBoolean())
                {
                    throw TokenizerFile.Unsupported(file, "'add_prefix_space'", "ByteLevel without it");
                }

                byteLevel = true;
                if (!part.TryGetProperty("use_regex", out JsonElement use) || use.GetBoolean())
                {
                    expressions.Add(Compile(file, PreTokenizer.ByteLevelPattern));
                }

                break;
            default:
                throw TokenizerFile.Unsupported(file, $"pre-tokenizer '{type}'", "Sequence, Split, Digits, ByteLevel");
        }
    }

    private static Regex Compile(string file, string pattern)
    {
        try
        {
            return new(pattern, RegexOptions.Compiled | RegexOptions.CultureInvariant);
        }
        catch (ArgumentException fault)
        {
            throw new KreweException($"tokenizer '{file}': expression not understood by .NET: {fault.Message}", fault);
        }
    }
}
