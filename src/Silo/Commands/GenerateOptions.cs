using System.CommandLine;
using Krewe.Model.Configuration;
using Krewe.Model.Generation;
using Krewe.Silo.Hosting;

namespace Krewe.Silo.Commands;

/// <summary>The options of <c>krewe generate</c>.</summary>
internal sealed class GenerateOptions
{
    /// <summary>The text to continue.</summary>
    public Option<string?> Prompt { get; } = new("--prompt")
    {
        Description = "The text to continue",
        HelpName = "TEXT",
    };

    /// <summary>Texts to continue together.</summary>
    public Option<string?> Prompts { get; } = new("--prompts")
    {
        Description = "Texts to continue together, one a line",
        HelpName = "FILE",
    };

    /// <summary>Continuations of each text.</summary>
    public Option<int> Batch { get; } = SharedOptions.AtLeast(1, new Option<int>("--batch")
    {
        Description = "Continuations of each text, generated together; each has a seed of its own",
        HelpName = "N",
        DefaultValueFactory = _ => 1,
    });

    /// <summary>A model with random parameters.</summary>
    public Option<string?> Preset { get; } = new("--preset")
    {
        Description = "Instead of MODEL, one with random parameters, to measure: " + string.Join(", ", ModelPresets.Names),
        HelpName = "NAME",
    };

    /// <summary>Goes on behind the end of a text.</summary>
    public Option<bool> IgnoreEos { get; } = new("--ignore-eos")
    {
        Description = "Go on behind the end of a text, to measure",
    };

    /// <summary>Most tokens.</summary>
    public Option<int> MaxTokens { get; } = SharedOptions.AtLeast(1, new Option<int>("--max-tokens")
    {
        Description = "Most tokens to generate",
        HelpName = "N",
        DefaultValueFactory = _ => 128,
    });

    /// <summary>Temperature.</summary>
    public Option<float> Temperature { get; } = SharedOptions.AtLeast(0f, new Option<float>("--temperature")
    {
        Description = "0 always takes the most likely token; 1 draws from the model's distribution",
        HelpName = "X",
        DefaultValueFactory = _ => 0,
    });

    /// <summary>Top-k.</summary>
    public Option<int> TopK { get; } = SharedOptions.AtLeast(0, new Option<int>("--top-k")
    {
        Description = "Draw from the K most likely tokens; 0 for all",
        HelpName = "K",
        DefaultValueFactory = _ => 0,
    });

    /// <summary>Top-p.</summary>
    public Option<float> TopP { get; } = new("--top-p")
    {
        Description = "Draw from the fewest tokens whose probabilities reach P; 1 for all",
        HelpName = "P",
        DefaultValueFactory = _ => 1,
    };

    /// <summary>Seed of the draw.</summary>
    public Option<ulong> Seed { get; } = new("--seed")
    {
        Description = "Seed of the draw, and of a preset's parameters: the same seed gives the same text",
        HelpName = "N",
        DefaultValueFactory = _ => 0,
    };

    /// <summary>Without the latent cache.</summary>
    public Option<bool> NoCache { get; } = new("--no-cache")
    {
        Description = "Compute the whole sequence anew for each token, to check the cache",
    };

    /// <summary>Without a first token.</summary>
    public Option<bool> NoBos { get; } = new("--no-bos")
    {
        Description = "Put no begin-of-text token before the prompt",
    };

    /// <summary>Another tokenizer.</summary>
    public Option<string?> Tokenizer { get; } = new("--tokenizer")
    {
        Description = "tokenizer.json or its folder, where the model folder has none; 'bytes' for bytes",
        HelpName = "PATH",
    };

    /// <summary>JSON result.</summary>
    public Option<bool> Json { get; } = SharedOptions.Json("Tokens, text and speed as one JSON object, at the end");

    private Option<int> Silos { get; } = SharedOptions.Silos();

    private Option<int> Stages { get; } = SharedOptions.Stages(1);

    private Option<int> CpuThreads { get; } = SharedOptions.CpuThreads();

    private Option<DeviceName[]> Devices { get; } = SharedOptions.Devices();

    private Option<string> Precision { get; } = SharedOptions.Precision();

    /// <summary>Adds all of them.</summary>
    public void AddTo(Command command)
    {
        TopP.Validators.Add(result =>
        {
            if (SharedOptions.Value<float>(result) is { } value and not (> 0 and <= 1))
            {
                result.AddError($"--top-p must be above 0 and at most 1, not {value}");
            }
        });
        Option[] all =
        [
            Prompt, Prompts, Batch, Preset, IgnoreEos, MaxTokens, Temperature, TopK, TopP, Seed, NoCache, NoBos, Tokenizer, Silos, Stages, CpuThreads, Devices,
            Precision, Json,
        ];
        foreach (Option option in all)
        {
            command.Add(option);
        }
    }

    /// <summary>How tokens are chosen.</summary>
    public SamplingOptions Sampling(ParseResult parsed) => new(
        parsed.GetValue(Temperature), parsed.GetValue(TopK), parsed.GetValue(TopP), parsed.GetValue(Seed));

    /// <summary>How the model is loaded.</summary>
    public LoadRequest Load(ParseResult parsed, int positions) => new(
        parsed.GetValue(Silos), parsed.GetValue(Stages), parsed.GetValue(CpuThreads), positions,
        Verbose: parsed.GetValue<bool>("--verbose"), Precision: parsed.GetValue(Precision)!,
        Devices: parsed.GetValue(Devices));
}
