using System.CommandLine;
using System.Diagnostics;
using System.Text;
using System.Text.Json.Nodes;
using Krewe.Model;
using Krewe.Model.Data;
using Krewe.Model.Generation;

namespace Krewe.Silo.Commands;

/// <summary><c>krewe generate</c>: continues a text.</summary>
internal static class GenerateCommand
{
    /// <summary>The command.</summary>
    public static Command Create(Terminal terminal)
    {
        Argument<string> model = SharedOptions.Model();
        var options = new GenerateOptions();
        var command = new ToolCommand(
            "generate", "Continues a text; the continuation goes to standard output as it comes.",
            "krewe generate MODEL --prompt \"Gets or sets the\"",
            "krewe generate MODEL --prompt \"Returns a\" --temperature 0.8 --top-p 0.95 --seed 7 --silos 2")
        {
            model,
        };
        options.AddTo(command);
        command.SetAction(async (parsed, cancellation) =>
        {
            using ModelFolder folder = ModelFolder.Open(parsed.GetRequiredValue(model));
            Tokenizer tokenizer = folder.LoadTokenizer(parsed.GetValue(options.Tokenizer));
            int[] prompt = Prompt(folder, tokenizer, parsed.GetRequiredValue(options.Prompt), parsed.GetValue(options.NoBos));
            int room = folder.Config.MaxPositionEmbeddings - prompt.Length;
            if (room < 1)
            {
                throw new KreweException(
                    $"the prompt has {prompt.Length} tokens, the model reads {folder.Config.MaxPositionEmbeddings}: shorten it");
            }

            if (folder.Notice is { } notice)
            {
                terminal.Notice(notice);
            }

            int maxTokens = Math.Min(room, parsed.GetValue(options.MaxTokens));
            LoadRequest load = options.Load(parsed, prompt.Length + maxTokens);
            await using LoadedModel loaded = await LoadedModel.OpenAsync(folder, load, cancellation);
            int[] stop = [.. new[] { tokenizer.EosId, folder.Config.EosTokenId }.OfType<int>().Distinct()];
            var run = new TextRun(terminal, tokenizer, prompt.Length, maxTokens, stop, parsed.GetValue(options.Json));
            await run.ConsumeAsync(
                loaded.GenerateAsync(
                    new()
                    {
                        Prompt = prompt,
                        MaxTokens = maxTokens,
                        StopTokens = stop,
                        Sampling = options.Sampling(parsed),
                        UseCache = !parsed.GetValue(options.NoCache),
                    },
                    cancellation),
                cancellation);
            return ExitCode.Fine;
        });
        return command;
    }

    private static int[] Prompt(ModelFolder folder, Tokenizer tokenizer, string text, bool noBos)
    {
        int? bos = noBos || !folder.AddsBos() ? null : tokenizer.BosId ?? folder.Config.BosTokenId;
        int[] ids = tokenizer.Encode(text);
        int[] prompt = bos is { } first ? [first, .. ids] : ids;
        return prompt.Length > 0 ? prompt : throw new KreweException("the prompt is empty: give --prompt a text");
    }

    /// <summary>Prints tokens as they come and what became of them.</summary>
    private sealed class TextRun(
        Terminal terminal, Tokenizer tokenizer, int promptTokens, int maxTokens, int[] stop, bool json)
    {
        private readonly List<int> _tokens = [];
        private readonly StringBuilder _text = new();

        public async Task ConsumeAsync(IAsyncEnumerable<int> tokens, CancellationToken cancellation)
        {
            StreamingDecoder decoder = tokenizer.CreateStreamingDecoder();
            long start = Stopwatch.GetTimestamp();
            TimeSpan first = default;
            try
            {
                await foreach (int token in tokens)
                {
                    first = _tokens.Count == 0 ? Stopwatch.GetElapsedTime(start) : first;
                    _tokens.Add(token);
                    Append(decoder.Append(token));
                }
            }
            catch (OperationCanceledException) when (cancellation.IsCancellationRequested && !json)
            {
                Append(Environment.NewLine);
                throw;
            }

            TimeSpan time = Stopwatch.GetElapsedTime(start);
            Append(decoder.Flush());
            double rate = _tokens.Count > 1 ? (_tokens.Count - 1) / (time - first).TotalSeconds : double.NaN;
            string finish = _tokens.Count > 0 && stop.Contains(_tokens[^1]) ? "stop" : "length";
            Finish(finish, rate, first);
        }

        private void Append(string piece)
        {
            _text.Append(piece);
            if (!json)
            {
                terminal.Out.Write(piece);
                terminal.Out.Flush();
            }
        }

        private void Finish(string finish, double rate, TimeSpan first)
        {
            if (json)
            {
                Json.Write(terminal.Out, new JsonObject
                {
                    ["prompt_tokens"] = promptTokens,
                    ["tokens"] = TokenizeCommand.Ids(_tokens),
                    ["text"] = _text.ToString(),
                    ["finish"] = finish,
                    ["tokens_per_second"] = Json.Number(rate),
                });
                return;
            }

            terminal.Out.WriteLine();
            string why = finish == "stop" ? "end of text" : _tokens.Count < maxTokens ? "ended" : "length";
            string speed = double.IsFinite(rate) ? $", then {rate:F1} tokens/s" : "";
            terminal.Error.WriteLine(
                $"[{promptTokens} + {_tokens.Count} tokens ({why}), first after {first.TotalMilliseconds:F0} ms{speed}]");
        }
    }
}
