using System.CommandLine;
using Krewe.Model.Configuration;
using Krewe.Model.Pipeline;
using Krewe.Silo.Commands.Cluster;
using Krewe.Silo.Hosting;

namespace Krewe.Silo.Commands.Train;

/// <summary>
/// The options of <c>krewe train</c>; what they leave unsaid is the default of <see cref="TrainingConfig"/>.
/// </summary>
internal sealed class TrainOptions
{
    private static readonly TrainingConfig _usual = new();

    /// <summary>Preset.</summary>
    public Option<string> Preset { get; } = Text("--preset", "NAME", "Model: " + string.Join(", ", ModelPresets.Names), "tiny");

    /// <summary>Config file instead of a preset.</summary>
    public Option<string?> Config { get; } = Text(
        "--config", "FILE", "Model from a config.json, or the folder that holds one, instead of a preset");

    /// <summary>Corpus.</summary>
    public Option<string?> Data { get; } = Text(
        "--data", "PATH", "Text file, JSON lines, JSON array or folder (default: documentation of the .NET SDK)");

    /// <summary>Tokenizer.</summary>
    public Option<string?> Tokenizer { get; } = Text(
        "--tokenizer", "PATH", "tokenizer.json or the folder that holds it (default: one token a byte)");

    /// <summary>Steps.</summary>
    public Option<long> Steps { get; } = Number("--steps", "Optimizer steps of the run", _usual.Steps, 1);

    /// <summary>Sequences of a batch.</summary>
    public Option<int> Batch { get; } = Number("--batch", "Sequences of one global batch", _usual.BatchSize, 1);

    /// <summary>Micro-batches.</summary>
    public Option<int> MicroBatches { get; } = Number(
        "--micro-batches", "Micro-batches that the global batch is cut into", _usual.MicroBatches, 1);

    /// <summary>Tokens of a sequence.</summary>
    public Option<int> SequenceLength { get; } = Number(
        "--sequence-length", "Tokens of one sequence", _usual.SequenceLength, 2);

    /// <summary>Learning rate.</summary>
    public Option<double> LearningRate { get; } = Number(
        "--learning-rate", "Highest learning rate", _usual.LearningRate, 0);

    /// <summary>Warm-up.</summary>
    public Option<long> Warmup { get; } = Number("--warmup", "Steps of the linear warm-up", _usual.WarmupSteps, 0);

    /// <summary>Gamma.</summary>
    public Option<double> BiasUpdateSpeed { get; } = Number(
        "--bias-update-speed", "How far a routing bias moves in one step; 0 freezes it", _usual.BiasUpdateSpeed, 0);

    /// <summary>Alpha.</summary>
    public Option<double?> BalanceAlpha { get; } = new("--balance-alpha")
    {
        Description = "Weight of the balance loss (default: the model's, 1e-4 where it has none)",
        HelpName = "X",
    };

    /// <summary>Scope of the balance loss.</summary>
    public Option<string> BalanceScope { get; } = Choice(
        "--balance-scope", "Balance each sequence, or the micro-batch (the classic auxiliary loss)", "sequence", "micro-batch");

    /// <summary>Lambda.</summary>
    public Option<double> MtpWeight { get; } = Number("--mtp-weight", "Weight of the MTP loss", _usual.MtpLossWeight, 0);

    /// <summary>Seed.</summary>
    public Option<ulong> Seed { get; } = Number("--seed", "Seed of parameters and data order", _usual.Seed, 0UL);

    /// <summary>Storage of the moments.</summary>
    public Option<string?> Moments { get; } = MomentsOption();

    /// <summary>Storage of checkpoint weights.</summary>
    public Option<string> CheckpointType { get; } = Choice(
        "--checkpoint-type", "Storage of checkpoint weights", "bfloat16", "float32");

    /// <summary>Arithmetic.</summary>
    public Option<string> Precision { get; } = SharedOptions.Precision();

    /// <summary>Pipeline schedule.</summary>
    public Option<string> Schedule { get; } = Choice(
        "--schedule", "Order in which the ranks of the pipeline work through the micro-batches", [.. PipelineMethods.Names]);

    /// <summary>Ranks of the pipeline.</summary>
    public Option<int?> Ranks { get; } = SharedOptions.AtLeastOrNone(1, new Option<int?>("--ranks")
    {
        Description =
            "Ranks of the pipeline (default: one per device of the silos; with the sequential schedule --stages)",
        HelpName = "N",
    });

    /// <summary>Steps between snapshots.</summary>
    public Option<int?> SnapshotEvery { get; } = SharedOptions.AtLeastOrNone(0, new Option<int?>("--snapshot-every")
    {
        Description =
            "Steps between copies of the run's state in the memory of a peer silo, to go back to when a silo dies or loses " +
            "its device; 0 for none (default: 10 with --cluster or several GPUs, else none)",
        HelpName = "N",
    });

    /// <summary>Name of the run.</summary>
    public Option<string> Run { get; } = Text("--run", "NAME", "Name of the run", "default");

    /// <summary>Folder of the run.</summary>
    public Option<string?> Output { get; } = Text("--output", "FOLDER", "Folder of the run (default: runs/NAME)");

    /// <summary>Goes on.</summary>
    public Option<bool> Resume { get; } = new("--resume")
    {
        Description = "Go on from the run's newest checkpoint, bit for bit; model and recipe are the checkpoint's",
    };

    /// <summary>Deletes old checkpoints.</summary>
    public Option<bool> Overwrite { get; } = new("--overwrite")
    {
        Description = "Train anew although the folder holds checkpoints, which are deleted",
    };

    /// <summary>Steps between evaluations.</summary>
    public Option<long> EvaluateEvery { get; } = Number(
        "--evaluate-every", "Steps between evaluations on the held-out part; 0 for start and end only", 0L, 0);

    /// <summary>Steps between checkpoints.</summary>
    public Option<long> CheckpointEvery { get; } = Number(
        "--checkpoint-every", "Steps between checkpoints; 0 for the end only", 0L, 0);

    /// <summary>No checkpoint at all.</summary>
    public Option<bool> NoCheckpoint { get; } = new("--no-checkpoint")
    {
        Description = "Write no checkpoint, not even at the end: for measurements",
    };

    /// <summary>Size of an evaluation.</summary>
    public Option<int> EvaluationWindows { get; } = Number(
        "--evaluation-windows", "Held-out sequences that one evaluation reads at most; 0 for no evaluation", 64, 0);

    /// <summary>Prompt of the sample.</summary>
    public Option<string?> Sample { get; } = Text(
        "--sample", "TEXT", "Prompt of the sample at the end (default: a new document)");

    /// <summary>Gantt chart of the last step.</summary>
    public Option<string?> Timeline { get; } = Text(
        "--timeline", "FILE", "Draw when each rank did what in the last step, as SVG");

    /// <summary>A cluster of processes instead of an embedded one.</summary>
    public ClusterOptions Cluster { get; } = new();

    /// <summary>Silos.</summary>
    public Option<int> Silos { get; } = SharedOptions.Within(
        1, SharedOptions.MostSilos, Number(
            "--silos",
            "Silos of the embedded cluster, which share out the devices; where GPUs are named, one for each device by " +
            "default", 2, 1));

    /// <summary>Stages.</summary>
    public Option<int> Stages { get; } = SharedOptions.Stages(2);

    /// <summary>Threads.</summary>
    public Option<int> CpuThreads { get; } = SharedOptions.CpuThreads();

    /// <summary>Devices.</summary>
    public Option<DeviceName[]> Devices { get; } = SharedOptions.Devices();

    /// <summary>Events as JSON lines.</summary>
    public Option<bool> Json { get; } = SharedOptions.Json("Events as JSON lines, one object each");

    /// <summary>Options that the recipe of a resumed run overrules.</summary>
    public IReadOnlyList<Option> OfRecipe =>
    [
        Preset, Config, Steps, Batch, MicroBatches, SequenceLength, LearningRate, Warmup, BiasUpdateSpeed, BalanceAlpha,
        BalanceScope, MtpWeight, Seed, Moments, Precision,
    ];

    /// <summary>Adds all options.</summary>
    public void AddTo(Command command)
    {
        Option[] others =
        [
            Data, Tokenizer, Run, Output, Resume, Overwrite, EvaluateEvery, EvaluationWindows, CheckpointEvery,
            NoCheckpoint, CheckpointType, Sample, Silos, Stages, Ranks, CpuThreads, Devices, Schedule, SnapshotEvery, Timeline,
            Json,
        ];
        foreach (Option option in OfRecipe.Concat(others))
        {
            command.Add(option);
        }

        Cluster.AddTo(command);
    }

    /// <summary>Silos of the embedded cluster: as asked for, or one for each device where there are GPUs among them.</summary>
    public int SilosOf(ParseResult parsed)
    {
        DeviceName[] devices = parsed.GetValue(Devices)!;
        return parsed.GetResult(Silos) is { Implicit: false } || !devices.Any(device => device.IsCuda)
            ? parsed.GetValue(Silos)
            : devices.Length;
    }

    /// <summary>Places of the embedded cluster: devices, or silos where there are more of them.</summary>
    public int PlacesOf(ParseResult parsed) => Math.Max(SilosOf(parsed), parsed.GetValue(Devices)!.Length);

    private static Option<string?> MomentsOption()
    {
        Option<string?> option = Text(
            "--moments", "float32|bfloat16",
            "Storage of AdamW's moments (default: as the precision has it, bfloat16 for fp8 and mxfp8, else float32)");
        option.AcceptOnlyFromAmong("float32", "bfloat16");
        return option;
    }

    private static Option<string> Text(string name, string helpName, string description, string usual) => new(name)
    {
        Description = description,
        HelpName = helpName,
        DefaultValueFactory = _ => usual,
    };

    private static Option<string?> Text(string name, string helpName, string description) => new(name)
    {
        Description = description,
        HelpName = helpName,
    };

    private static Option<string> Choice(string name, string description, params string[] values)
    {
        Option<string> option = Text(name, string.Join('|', values), description, values[0]);
        option.AcceptOnlyFromAmong(values);
        return option;
    }

    private static Option<T> Number<T>(string name, string description, T usual, T least)
        where T : struct, IComparable<T> => SharedOptions.AtLeast(least, new Option<T>(name)
        {
            Description = description,
            HelpName = typeof(T) == typeof(double) ? "X" : "N",
            DefaultValueFactory = _ => usual,
        });
}
