using System.CommandLine;
using System.Text.Json.Nodes;
using Krewe.Model;
using Krewe.Model.Data;

namespace Krewe.Silo.Commands;

/// <summary><c>krewe tokenize</c>: texts to ids and back.</summary>
internal static class TokenizeCommand
{
    /// <summary>The command.</summary>
    public static Command Create(Terminal terminal)
    {
        var tokenizer = new Option<string>("--tokenizer")
        {
            Description = "tokenizer.json, or the folder that holds it; 'bytes' for one token a byte",
            HelpName = "PATH",
            Required = true,
        };
        Option<bool> json = SharedOptions.Json(
            "A JSON array of texts on standard input, a JSON array of id arrays on standard output");
        var decode = new Option<bool>("--decode") { Description = "The other way round: ids to text" };
        var command = new ToolCommand(
            "tokenize", "Turns text on standard input into token ids, exactly as it comes: nothing is added or trimmed.",
            "printf 'Hello, world' | krewe tokenize --tokenizer MODEL",
            "echo '[\"Hello\", \"world\"]' | krewe tokenize --tokenizer tokenizer.json --json",
            "echo '17 4 19' | krewe tokenize --tokenizer MODEL --decode")
        {
            tokenizer, json, decode,
        };
        command.SetAction(async (parsed, cancellation) =>
        {
            Tokenizer loaded = Load(parsed.GetRequiredValue(tokenizer));
            string input = await ReadAsync(terminal, cancellation);
            Action<Terminal, Tokenizer, string> run = (parsed.GetValue(decode), parsed.GetValue(json)) switch
            {
                (false, false) => EncodePlain,
                (false, true) => EncodeJson,
                (true, false) => DecodePlain,
                (true, true) => DecodeJson,
            };
            run(terminal, loaded, input);
            return ExitCode.Fine;
        });
        return command;
    }

    private static async Task<string> ReadAsync(Terminal terminal, CancellationToken cancellation)
    {
        try
        {
            return await terminal.In.ReadToEndAsync(cancellation);
        }
        catch (System.Text.DecoderFallbackException exception)
        {
            throw new KreweException("standard input is no UTF-8 text: convert it first", exception);
        }
    }

    /// <summary>A tokenizer by path, or the byte tokenizer.</summary>
    public static Tokenizer Load(string path) => path == "bytes" ? new ByteTokenizer() : Tokenizer.Load(path);

    private static void EncodePlain(Terminal terminal, Tokenizer tokenizer, string input) =>
        terminal.Out.WriteLine(string.Join(' ', tokenizer.Encode(input)));

    private static void EncodeJson(Terminal terminal, Tokenizer tokenizer, string input)
    {
        string?[] texts = Json.Read<string?[]>(input, "standard input", "a JSON array of texts");
        var result = new JsonArray();
        for (int i = 0; i < texts.Length; i++)
        {
            string text = texts[i] ?? throw new KreweException($"standard input: entry {i} is null, a text is wanted");
            result.Add((JsonNode)Ids(tokenizer.Encode(text)));
        }

        Json.Write(terminal.Out, result);
    }

    private static void DecodePlain(Terminal terminal, Tokenizer tokenizer, string input)
    {
        char[] separators = [' ', ',', '\n', '\r', '\t', '[', ']'];
        string[] words = input.Split(separators, StringSplitOptions.RemoveEmptyEntries);
        int[] ids = [.. words.Select(word => int.TryParse(word, out int id)
            ? id
            : throw new KreweException($"standard input: '{word}' is no token id"))];
        terminal.Out.WriteLine(tokenizer.Decode(Known(ids, tokenizer)));
    }

    private static void DecodeJson(Terminal terminal, Tokenizer tokenizer, string input)
    {
        int[]?[] lists = Json.Read<int[]?[]>(input, "standard input", "a JSON array of id arrays");
        Json.Write(terminal.Out, new JsonArray(
            [.. lists.Select(ids => (JsonNode)tokenizer.Decode(Known(ids ?? [], tokenizer)))]));
    }

    private static int[] Known(int[] ids, Tokenizer tokenizer)
    {
        int wrong = Array.FindIndex(ids, id => id < 0 || id >= tokenizer.VocabularySize);
        return wrong < 0
            ? ids
            : throw new KreweException(
                $"standard input: {ids[wrong]} is no token id; '{tokenizer.Name}' has 0 to {tokenizer.VocabularySize - 1}");
    }

    /// <summary>A JSON array of numbers.</summary>
    public static JsonArray Ids(IEnumerable<int> ids) => new([.. ids.Select(id => (JsonNode)id)]);
}
