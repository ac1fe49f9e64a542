using System.Text.Json;
using Krewe.Model.Data.Tokenization;

namespace Krewe.Model.Data.Chat;

/// <summary>
/// Writes a conversation as the text that a model was trained on, by the Jinja template that comes with its tokenizer.
/// The part of Jinja that chat templates use is interpreted, with the settings of Hugging Face transformers
/// (<c>trim_blocks</c>, <c>lstrip_blocks</c>, loop controls). Immutable; may be used from any thread.
/// </summary>
public sealed class ChatTemplate
{
    private readonly string _source;
    private readonly Statement _body;
    private readonly Dictionary<string, object?> _tokens;

    private ChatTemplate(string name, string source, Dictionary<string, object?> tokens)
    {
        Name = name;
        // As Jinja reads a template: line ends as \n, the last one dropped.
        _source = source.ReplaceLineEndings("\n");
        _source = _source.EndsWith('\n') ? _source[..^1] : _source;
        _tokens = tokens;
        _body = Located(() => new TemplateParser(TemplateLexer.Tokenize(_source)).ParseTemplate());
    }

    /// <summary>Where it came from, for messages.</summary>
    public string Name { get; }

    /// <summary>
    /// The template of a model folder: <c>chat_template.jinja</c>, or <c>chat_template</c> in
    /// <c>tokenizer_config.json</c> (of several named ones, <c>default</c>).
    /// </summary>
    /// <exception cref="KreweException">The folder has no template, or it is not understood.</exception>
    public static ChatTemplate Load(string folder)
    {
        using JsonDocument? config = TokenizerConfig.TryRead(folder);
        var tokens = new Dictionary<string, object?>(StringComparer.Ordinal);
        foreach (string key in (string[])["bos_token", "eos_token", "pad_token", "unk_token"])
        {
            if (config is not null && TokenizerConfig.TokenText(config, key) is { } text)
            {
                tokens[key] = text;
            }
        }

        string file = Path.Combine(folder, "chat_template.jinja");
        if (File.Exists(file))
        {
            return new(file, File.ReadAllText(file), tokens);
        }

        string? template = config is not null
            && config.RootElement.TryGetProperty("chat_template", out JsonElement value)
            ? FindTemplate(value)
            : null;
        return template is not null
            ? new(Path.Combine(folder, TokenizerConfig.FileName), template, tokens)
            : throw new KreweException(
                $"'{folder}' has no chat template: neither chat_template.jinja nor chat_template in " +
                TokenizerConfig.FileName);
    }

    /// <summary>A template given as text.</summary>
    /// <param name="source">Jinja.</param>
    /// <param name="bosToken">Text of the first token, <c>bos_token</c> in the template.</param>
    /// <param name="eosToken">Text of the last token, <c>eos_token</c> in the template.</param>
    /// <exception cref="KreweException">The template is not understood.</exception>
    public static ChatTemplate Parse(string source, string? bosToken = null, string? eosToken = null) =>
        new("template", source, new(StringComparer.Ordinal) { ["bos_token"] = bosToken, ["eos_token"] = eosToken });

    /// <summary>The text of a conversation, special tokens written out, to be encoded as it is.</summary>
    /// <param name="messages">The turns.</param>
    /// <param name="addGenerationPrompt">End where the assistant's answer begins.</param>
    /// <param name="tools">JSON schemas of the functions that the model may call, for templates that show them.</param>
    /// <exception cref="KreweException">
    /// The template refuses the conversation, or fails; the place in it is named.
    /// </exception>
    public string Apply(
        IReadOnlyList<ChatMessage> messages, bool addGenerationPrompt, IReadOnlyList<JsonElement>? tools = null)
    {
        ArgumentNullException.ThrowIfNull(messages);
        var scope = new TemplateScope(TemplateFunctions.Globals);
        foreach ((string name, object? value) in _tokens)
        {
            scope.Set(name, value);
        }

        scope.Set("messages", messages.Select(object? (message) => ToValue(message)).ToList());
        scope.Set("tools", tools?.Select(TemplateJson.ToValue).ToList());
        scope.Set("add_generation_prompt", addGenerationPrompt);
        return Located(() =>
        {
            _body.Render(scope);
            return scope.Output.ToString();
        });
    }

    private static string? FindTemplate(JsonElement value)
    {
        if (value.ValueKind != JsonValueKind.Array)
        {
            return value.ValueKind == JsonValueKind.String ? value.GetString() : null;
        }

        foreach (JsonElement entry in value.EnumerateArray())
        {
            if (entry.ValueKind == JsonValueKind.Object && entry.TryGetProperty("name", out JsonElement name) &&
                name.ValueEquals("default") && entry.TryGetProperty("template", out JsonElement template))
            {
                return template.GetString();
            }
        }

        return null;
    }

    private static OrderedDictionary<string, object?> ToValue(ChatMessage message)
    {
        var value = new OrderedDictionary<string, object?> { ["role"] = message.Role, ["content"] = message.Content };
        if (message.Name is not null)
        {
            value["name"] = message.Name;
        }

        if (message.ToolCallId is not null)
        {
            value["tool_call_id"] = message.ToolCallId;
        }

        if (message.ToolCalls is not null)
        {
            value["tool_calls"] = message.ToolCalls.Select(object? (call) => new OrderedDictionary<string, object?>
            {
                ["id"] = call.Id,
                ["type"] = "function",
                ["function"] = new OrderedDictionary<string, object?>
                {
                    ["name"] = call.Name,
                    ["arguments"] = call.Arguments,
                },
            }).ToList();
        }

        return value;
    }

    private T Located<T>(Func<T> work)
    {
        try
        {
            return work();
        }
        catch (TemplateFault fault)
        {
            ReadOnlySpan<char> before = _source.AsSpan(0, Math.Clamp(fault.Position, 0, _source.Length));
            int line = before.Count('\n') + 1;
            int column = before.Length - before.LastIndexOf('\n');
            throw new KreweException($"chat template '{Name}', line {line}, column {column}: {fault.Message}", fault);
        }
        catch (InsufficientExecutionStackException fault)
        {
            throw new KreweException($"chat template '{Name}' is nested too deeply", fault);
        }
    }
}
