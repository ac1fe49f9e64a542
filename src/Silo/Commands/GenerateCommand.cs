using System.CommandLine;
using System.CommandLine.Parsing;
using Krewe.Grains.Interfaces.Serving;
using Krewe.Model;
using Krewe.Model.Configuration;
using Krewe.Model.Data;
using Krewe.Model.Generation;

namespace Krewe.Silo.Commands;

/// <summary><c>krewe generate</c>: continues texts.</summary>
internal static class GenerateCommand
{
    /// <summary>The command.</summary>
    public static Command Create(Terminal terminal)
    {
        Argument<string?> model = new("MODEL")
        {
            Description = "Checkpoint folder: config.json and model.safetensors (or shards with their index)",
            Arity = ArgumentArity.ZeroOrOne,
        };
        var options = new GenerateOptions();
        var command = new ToolCommand(
            "generate", "Continues a text, which goes to standard output as it comes, or many together.",
            "krewe generate MODEL --prompt \"Gets or sets the\"",
            "krewe generate MODEL --prompt \"Returns a\" --temperature 0.8 --top-p 0.95 --seed 7 --silos 2",
            "krewe generate MODEL --prompts prompts.txt --max-tokens 40",
            "krewe generate --preset 16b --precision fp8 --device cuda:0 --silos 1 --prompt a --batch 64")
        {
            model,
        };
        options.AddTo(command);
        command.Validators.Add(result => Check(result, model, options));
        command.SetAction(async (parsed, cancellation) =>
        {
            using ModelFolder? folder = parsed.GetValue(model) is { } path ? ModelFolder.Open(path) : null;
            ModelOrigin origin = folder?.Origin ?? Preset(parsed, options);
            Tokenizer tokenizer = folder?.LoadTokenizer(parsed.GetValue(options.Tokenizer))
                ?? TokenizeCommand.Load(parsed.GetValue(options.Tokenizer) ?? "bytes");
            tokenizer.EnsureFits(origin.Config.VocabSize);
            GenerationRequest[] requests = Requests(parsed, options, folder, origin.Config, tokenizer);
            if (folder?.Notice is { } notice)
            {
                terminal.Notice(notice);
            }

            LoadRequest load = options.Load(parsed, requests.Max(request => request.Prompt.Length + request.MaxTokens));
            await using LoadedModel loaded = await LoadedModel.OpenAsync(origin, load, cancellation);
            var texts = new GeneratedTexts(terminal, tokenizer, requests, parsed.GetValue(options.Json));
            await texts.ConsumeAsync(loaded.GenerateAsync(requests, cancellation), cancellation);
            return ExitCode.Fine;
        });
        return command;
    }

    private static void Check(CommandResult result, Argument<string?> model, GenerateOptions options)
    {
        bool folder = result.GetResult(model) is { Tokens.Count: > 0 };
        bool preset = result.GetResult(options.Preset) is { Implicit: false };
        if (folder == preset)
        {
            result.AddError(folder
                ? "MODEL and --preset are two models: give one of them"
                : "give a checkpoint folder, or --preset for a model with random parameters");
        }

        bool prompt = result.GetResult(options.Prompt) is { Implicit: false };
        bool prompts = result.GetResult(options.Prompts) is { Implicit: false };
        if (prompt == prompts)
        {
            result.AddError(prompt
                ? "--prompt and --prompts exclude each other"
                : "give --prompt a text to continue, or --prompts a file with a text a line");
        }
    }

    /// <summary>A model with random parameters; its multi-token prediction takes no part in generation.</summary>
    private static ModelOrigin Preset(ParseResult parsed, GenerateOptions options) => new(
        ModelPresets.Get(parsed.GetValue(options.Preset)!) with { NumNextnPredictLayers = 0 },
        Seed: parsed.GetValue(options.Seed));

    private static GenerationRequest[] Requests(
        ParseResult parsed, GenerateOptions options, ModelFolder? folder, ModelConfig config, Tokenizer tokenizer)
    {
        int batch = parsed.GetValue(options.Batch);
        string[] texts = parsed.GetValue(options.Prompts) is { } file
            ? Lines(file)
            : [parsed.GetValue(options.Prompt)!];
        int? bos = parsed.GetValue(options.NoBos) || folder?.AddsBos() == false ? null : tokenizer.BosId ?? config.BosTokenId;
        // A random model has no end of text.
        int[] stop = parsed.GetValue(options.IgnoreEos) || folder is null
            ? []
            : [.. new[] { tokenizer.EosId, config.EosTokenId }.OfType<int>().Distinct()];
        SamplingOptions sampling = options.Sampling(parsed);
        var requests = new GenerationRequest[texts.Length * batch];
        for (int i = 0; i < requests.Length; i++)
        {
            int[] ids = tokenizer.Encode(texts[i / batch]);
            int[] prompt = bos is { } first ? [first, .. ids] : ids;
            requests[i] = new()
            {
                Prompt = prompt,
                MaxTokens = Math.Min(Room(config, prompt.Length), parsed.GetValue(options.MaxTokens)),
                StopTokens = stop,
                Sampling = sampling with { Seed = sampling.Seed + (ulong)i },
                UseCache = !parsed.GetValue(options.NoCache),
            };
        }

        return requests;
    }

    private static string[] Lines(string file)
    {
        if (!File.Exists(file))
        {
            throw new KreweException($"{file}: no such file; a text a line is wanted");
        }

        string[] lines = [.. File.ReadAllLines(file).Where(line => line.Length > 0)];
        return lines.Length > 0 ? lines : throw new KreweException($"{file}: holds no texts; a text a line is wanted");
    }

    private static int Room(ModelConfig config, int promptTokens)
    {
        if (promptTokens == 0)
        {
            throw new KreweException("the prompt is empty: give --prompt a text");
        }

        int room = config.MaxPositionEmbeddings - promptTokens;
        return room > 0
            ? room
            : throw new KreweException(
                $"the prompt has {promptTokens} tokens, the model reads {config.MaxPositionEmbeddings}: shorten it");
    }
}
