using System.CommandLine;
using System.Diagnostics;
using System.Text.Json;
using System.Text.Json.Nodes;
using Krewe.Model;
using Krewe.Model.Data;
using Krewe.Model.Evaluation;
using Krewe.Silo.Hosting;

namespace Krewe.Silo.Commands;

/// <summary><c>krewe eval</c>: likelihood of texts.</summary>
internal static class EvalCommand
{
    /// <summary>The command.</summary>
    public static Command Create(Terminal terminal)
    {
        Argument<string> model = SharedOptions.Model();
        var texts = new Option<string>("--texts")
        {
            Description = "JSON array of texts, or of objects with a 'text'",
            HelpName = "FILE",
            Required = true,
        };
        var limit = new Option<int?>("--limit")
        {
            Description = "Only the first N texts (default: all)",
            HelpName = "N",
        };
        limit.Validators.Add(result =>
        {
            if (SharedOptions.Value<int>(result) is < 1 and var value)
            {
                result.AddError($"--limit must be at least 1, not {value}");
            }
        });
        var maxTokens = SharedOptions.AtLeast(2, new Option<int>("--max-tokens")
        {
            Description = "Tokens of a text, first and last token included; the rest is cut off",
            HelpName = "N",
            DefaultValueFactory = _ => 512,
        });
        var tokenizer = new Option<string?>("--tokenizer")
        {
            Description = "tokenizer.json or its folder, where the model folder has none; 'bytes' for bytes",
            HelpName = "PATH",
        };
        Option<int> silos = SharedOptions.Silos();
        Option<int> stages = SharedOptions.Stages(1);
        Option<int> threads = SharedOptions.CpuThreads();
        Option<DeviceName[]> devices = SharedOptions.Devices();
        Option<string> precision = SharedOptions.Precision();
        Option<bool> json = SharedOptions.Json("Scores of every text and the summary as one JSON object");
        var command = new ToolCommand(
            "eval", "Negative log-likelihood of texts, in nats, and how often the MTP head foresees the main head's choice.",
            "krewe eval MODEL --texts held_out.json",
            "krewe eval MODEL --texts held_out.json --silos 2 --json")
        {
            model, texts, limit, maxTokens, tokenizer, silos, stages, threads, devices, precision, json,
        };
        command.SetAction(async (parsed, cancellation) =>
        {
            using ModelFolder folder = ModelFolder.Open(parsed.GetRequiredValue(model));
            Tokenizer loadedTokenizer = folder.LoadTokenizer(parsed.GetValue(tokenizer));
            int[][] documents = Documents(
                folder, loadedTokenizer, ReadTexts(parsed.GetRequiredValue(texts)).Take(parsed.GetValue(limit) ?? int.MaxValue),
                parsed.GetValue(maxTokens));
            if (folder.Notice is { } notice)
            {
                terminal.Notice(notice);
            }

            var request = new LoadRequest(
                parsed.GetValue(silos), parsed.GetValue(stages), parsed.GetValue(threads),
                documents.Max(document => document.Length), Verbose: parsed.GetValue<bool>("--verbose"),
                Precision: parsed.GetValue(precision)!, Devices: parsed.GetValue(devices));
            await using LoadedModel loaded = await LoadedModel.OpenAsync(folder.Origin, request, cancellation);
            long start = Stopwatch.GetTimestamp();
            TextEvaluation result = await TextEvaluator.RunAsync(
                loaded.Model, folder.Config, documents, progress: new Counter(terminal, documents.Length),
                cancellation: cancellation);
            if (parsed.GetValue(json))
            {
                Json.Write(terminal.Out, ToJson(result));
            }
            else
            {
                Print(terminal.Out, result, documents, Stopwatch.GetElapsedTime(start));
            }

            return ExitCode.Fine;
        });
        return command;
    }

    private static int[][] Documents(
        ModelFolder folder, Tokenizer tokenizer, IEnumerable<string> texts, int maxTokens)
    {
        int? bos = folder.AddsBos() ? tokenizer.BosId ?? folder.Config.BosTokenId : null;
        int? eos = tokenizer.EosId ?? folder.Config.EosTokenId;
        int longest = Math.Min(maxTokens, folder.Config.MaxPositionEmbeddings);
        return [.. texts.Select(text => TextEvaluator.ToDocument(tokenizer, bos, eos, text, longest))];
    }

    private static List<string> ReadTexts(string path)
    {
        if (!File.Exists(path))
        {
            throw new KreweException($"{path}: no such file; a JSON array of texts is wanted");
        }

        JsonElement[] entries = Json.Read<JsonElement[]>(File.ReadAllText(path), path, "a JSON array of texts");
        var texts = new List<string>(entries.Length);
        for (int i = 0; i < entries.Length; i++)
        {
            JsonElement entry = entries[i];
            JsonElement text = entry.ValueKind == JsonValueKind.Object && entry.TryGetProperty("text", out JsonElement inner)
                ? inner
                : entry;
            texts.Add(text.ValueKind == JsonValueKind.String
                ? text.GetString()!
                : throw new KreweException($"{path}: entry {i} is neither a text nor an object with a 'text'"));
        }

        return texts.Count > 0 ? texts : throw new KreweException($"{path}: holds no texts");
    }

    private static JsonObject ToJson(TextEvaluation result)
    {
        var node = new JsonObject
        {
            ["documents"] = new JsonArray([.. result.Documents.Select(document => (JsonNode)new JsonObject
            {
                ["tokens"] = document.Tokens,
                ["nll"] = Json.Number(document.Nll),
            })]),
            ["mean_nll"] = Json.Number(result.MeanNll),
        };
        if (result.MtpAgreement is { } agreement)
        {
            node["mtp_agreement"] = agreement;
        }

        return node;
    }

    private static void Print(TextWriter output, TextEvaluation result, int[][] documents, TimeSpan time)
    {
        int tokens = documents.Sum(document => document.Length);
        output.WriteLine($"texts          {result.Documents.Count}");
        output.WriteLine($"tokens scored  {result.Documents.Sum(document => document.Tokens)}");
        output.WriteLine($"mean NLL       {result.MeanNll:F6} nats per token (perplexity {result.Perplexity:F2})");
        if (result.MtpAgreement is { } agreement)
        {
            output.WriteLine($"MTP agreement  {agreement:P1} of {result.AgreementCount} positions");
        }

        output.WriteLine($"time           {time.TotalSeconds:F1} s, {tokens / time.TotalSeconds:F0} tokens/s");
    }

    /// <summary>A line that counts documents, for a person who waits.</summary>
    private sealed class Counter(Terminal terminal, int count) : IProgress<int>
    {
        public void Report(int value)
        {
            if (terminal.IsErrorLive)
            {
                terminal.Error.Write(value < count ? $"\r{value} of {count} texts" : $"\r{new string(' ', 40)}\r");
            }
        }
    }
}
