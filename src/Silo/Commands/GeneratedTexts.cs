using System.Diagnostics;
using System.Text;
using System.Text.Json.Nodes;
using Krewe.Grains.Interfaces.Serving;
using Krewe.Model.Data;
using Krewe.Model.Generation;

namespace Krewe.Silo.Commands;

/// <summary>
/// Prints what is generated and what became of it: one text as it comes, several when all have ended.
/// </summary>
/// <param name="terminal">Where.</param>
/// <param name="tokenizer">Of the texts.</param>
/// <param name="requests">What was asked for.</param>
/// <param name="json">Prints one JSON object at the end, and nothing else.</param>
internal sealed class GeneratedTexts(
    Terminal terminal, Tokenizer tokenizer, IReadOnlyList<GenerationRequest> requests, bool json)
{
    private readonly Text[] _texts = [.. requests.Select(_ => new Text(tokenizer.CreateStreamingDecoder()))];
    private long _start;
    private TimeSpan _first;
    private int _firstTokens;

    /// <summary>Prints tokens as they come and, at the end, the speed.</summary>
    /// <param name="steps">What each step gave.</param>
    /// <param name="cancellation">That of the steps.</param>
    public async Task ConsumeAsync(IAsyncEnumerable<GeneratedToken[]> steps, CancellationToken cancellation)
    {
        _start = Stopwatch.GetTimestamp();
        int begun = 0;
        try
        {
            await foreach (GeneratedToken[] step in steps)
            {
                foreach (GeneratedToken token in step)
                {
                    Take(token);
                    begun += token.Index == 0 ? 1 : 0;
                }

                if (begun == _texts.Length && _firstTokens == 0)
                {
                    // From here on every step is a token of each.
                    _first = Stopwatch.GetElapsedTime(_start);
                    _firstTokens = _texts.Sum(text => text.Tokens.Count);
                }
            }
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested && !json)
        {
            terminal.Out.WriteLine();
            throw;
        }

        TimeSpan time = Stopwatch.GetElapsedTime(_start);
        for (int i = 0; i < _texts.Length; i++)
        {
            Append(_texts[i], _texts[i].Decoder.Flush());
        }

        int tokens = _texts.Sum(text => text.Tokens.Count);
        Finish(tokens, tokens > _firstTokens ? (tokens - _firstTokens) / (time - _first).TotalSeconds : double.NaN);
    }

    private void Take(GeneratedToken token)
    {
        Text text = _texts[token.Sequence];
        text.Tokens.Add(token.Token);
        text.Finish = token.Finish ?? text.Finish;
        Append(text, text.Decoder.Append(token.Token));
    }

    private void Append(Text text, string piece)
    {
        text.Written.Append(piece);
        if (_texts.Length == 1 && !json)
        {
            terminal.Out.Write(piece);
            terminal.Out.Flush();
        }
    }

    private void Finish(int tokens, double rate)
    {
        if (json)
        {
            Json.Write(terminal.Out, ToJson(rate));
            return;
        }

        string speed = double.IsFinite(rate) ? $", then {rate:F1} tokens/s" : "";
        string first = $"first after {_first.TotalMilliseconds:F0} ms{speed}";
        int prompts = requests.Sum(request => request.Prompt.Length);
        if (_texts.Length == 1)
        {
            terminal.Out.WriteLine();
            string why = _texts[0].Finish == "stop" ? "end of text" : _texts[0].Finish ?? "ended";
            terminal.Error.WriteLine($"[{prompts} + {tokens} tokens ({why}), {first}]");
            return;
        }

        for (int i = 0; i < _texts.Length; i++)
        {
            terminal.Out.WriteLine($"[{i + 1}] {_texts[i].Written}");
        }

        terminal.Error.WriteLine($"[{_texts.Length} sequences, {prompts} + {tokens} tokens, {first}]");
    }

    private JsonObject ToJson(double rate)
    {
        if (_texts.Length == 1)
        {
            JsonObject one = ToJson(0);
            one["tokens_per_second"] = Json.Number(rate);
            return one;
        }

        return new()
        {
            ["sequences"] = new JsonArray([.. Enumerable.Range(0, _texts.Length).Select(i => (JsonNode)ToJson(i))]),
            ["tokens_per_second"] = Json.Number(rate),
        };
    }

    private JsonObject ToJson(int sequence) => new()
    {
        ["prompt_tokens"] = requests[sequence].Prompt.Length,
        ["tokens"] = TokenizeCommand.Ids(_texts[sequence].Tokens),
        ["text"] = _texts[sequence].Written.ToString(),
        ["finish"] = _texts[sequence].Finish ?? "length",
    };

    private sealed class Text(StreamingDecoder decoder)
    {
        public StreamingDecoder Decoder { get; } = decoder;

        public List<int> Tokens { get; } = [];

        public StringBuilder Written { get; } = new();

        public string? Finish { get; set; }
    }
}
