using System.CommandLine;
using Krewe.Gpu.Driver;
using Krewe.Grains.Interfaces.Training;
using Krewe.Model;
using Krewe.Model.Checkpoints;
using Krewe.Model.Configuration;
using Krewe.Model.Data;
using Krewe.Model.Layers;
using Krewe.Model.Pipeline;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Krewe.Model.Training;
using Krewe.Silo.Hosting;

namespace Krewe.Silo.Commands.Train;

/// <summary>A checked order to train: everything that can be refused without a cluster has been.</summary>
/// <param name="Name">Name of the run.</param>
/// <param name="ModelName">Preset or config file, for the header.</param>
/// <param name="Model">The model.</param>
/// <param name="Recipe">The recipe.</param>
/// <param name="Request">What the run grain gets; the places are filled in later.</param>
/// <param name="Notices">Lines that the user should see.</param>
/// <param name="Replaced">Old checkpoints that go when the run has started.</param>
internal sealed record TrainPlan(
    string Name, string ModelName, ModelConfig Model, TrainingConfig Recipe, RunRequest Request,
    IReadOnlyList<string> Notices, IReadOnlyList<string> Replaced)
{
    private const double GiB = 1L << 30;
    private const int UsualSnapshotEvery = 10;

    /// <summary>Reads and checks the options.</summary>
    /// <exception cref="KreweException">Something cannot be done; nothing has been written.</exception>
    public static TrainPlan Create(TrainOptions options, ParseResult parsed)
    {
        bool resume = parsed.GetValue(options.Resume);
        string name = RunName(options, parsed, resume);
        if (name.Length == 0 || name.IndexOfAny(['/', '\\', '@']) >= 0 || name.StartsWith('.'))
        {
            throw new KreweException($"'{name}' cannot name a run: use letters, digits and dashes");
        }

        string folder = Path.GetFullPath(parsed.GetValue(options.Output) ?? Path.Combine("runs", name));
        string? newest = RunFolder.Newest(folder);
        List<string> replaced = OldCheckpoints(folder, newest, resume, parsed.GetValue(options.Overwrite));
        (string modelName, ModelConfig model) = ModelOf(options, parsed, resume ? newest : null);
        model.ThrowIfInvalid(modelName);
        TrainingConfig recipe = resume
            ? TrainingConfig.Parse(TrainingManifest.Read(newest!).TrainingJson, newest!)
            : RecipeOf(options, parsed);
        recipe.ThrowIfInvalid("the recipe");
        (string? tokenizer, model) = TokenizerOf(
            parsed.GetValue(options.Tokenizer), model, resume, parsed.GetValue(options.Sample) ?? "");
        string? data = DataOf(parsed.GetValue(options.Data));
        PipelineMethod method = PipelineMethods.Parse(parsed.GetValue(options.Schedule)!);
        bool cluster = parsed.GetValue(options.Cluster.Cluster) is not null;
        // What may be lost without the rest of the run: a silo of a cluster, or one of several GPUs.
        bool losable = cluster
            || parsed.GetValue(options.Devices)!.Where(device => device.IsCuda).Distinct().Count() > 1;
        EnsureFitsMemory(modelName, model, recipe, cluster ? [DeviceName.Cpu] : parsed.GetValue(options.Devices)!);
        WritableFolder.Ensure(folder);
        var request = new RunRequest
        {
            ConfigJson = model.ToJson(),
            TrainingJson = recipe.ToJson(),
            Data = data,
            Tokenizer = tokenizer,
            Folder = folder,
            Silos = [],
            Stages = RanksOf(options, parsed, method),
            Method = method,
            SnapshotEvery = parsed.GetValue(options.SnapshotEvery) ?? (losable ? UsualSnapshotEvery : 0),
            Elastic = cluster,
            EvaluateEvery = parsed.GetValue(options.EvaluateEvery),
            EvaluationWindows = parsed.GetValue(options.EvaluationWindows),
            CheckpointEvery = CheckpointEveryOf(options, parsed),
            WithoutCheckpoint = parsed.GetValue(options.NoCheckpoint),
            Resume = resume,
            CheckpointType = parsed.GetValue(options.CheckpointType) == "float32" ? DType.Float32 : DType.BFloat16,
        };
        bool microBatchesGiven = resume || parsed.GetResult(options.MicroBatches) is { Implicit: false };
        var plan = new TrainPlan(name, modelName, model, recipe, request, NoticesOf(options, parsed, resume), replaced)
        {
            MicroBatchesGiven = microBatchesGiven,
            BatchGiven = resume || parsed.GetResult(options.Batch) is { Implicit: false },
        };
        if (!cluster)
        {
            // What the schedule refuses is refused before anything starts.
            _ = plan.On([.. Enumerable.Repeat("", options.PlacesOf(parsed))]);
        }

        return plan;
    }

    /// <summary>True where the user chose the number of micro-batches.</summary>
    private bool MicroBatchesGiven { get; init; }

    /// <summary>True where the user chose the size of the batch.</summary>
    private bool BatchGiven { get; init; }

    /// <summary>The plan for the places that there are: ranks, stages and micro-batches that were left open.</summary>
    /// <exception cref="KreweException">The schedule or the model does not fit so many ranks.</exception>
    public TrainPlan On(string[] silos)
    {
        PipelineMethod method = Request.Method;
        int ranks = Request.Stages > 0 ? Request.Stages : silos.Length;
        int stages = method == PipelineMethod.DualPipeV ? 2 * ranks : ranks;
        int needed = method switch
        {
            PipelineMethod.Sequential => Recipe.MicroBatches,
            PipelineMethod.OneForwardOneBackward or PipelineMethod.ZeroBubble => ranks,
            _ => 2 * ranks,
        };
        TrainingConfig recipe = MicroBatchesGiven || Recipe.MicroBatches >= needed
            ? Recipe
            : Recipe with
            {
                MicroBatches = needed,
                BatchSize = BatchGiven || Recipe.BatchSize % needed == 0 ? Recipe.BatchSize : needed,
            };
        recipe.ThrowIfInvalid("the recipe");
        _ = PipelineSchedule.Create(method, ranks, recipe.MicroBatches);
        _ = StageRange.Partition(Model, stages);
        return this with
        {
            Recipe = recipe,
            Request = Request with { Silos = silos, Stages = stages, TrainingJson = recipe.ToJson() },
        };
    }

    /// <summary>Ranks that were asked for; 0 for one per place.</summary>
    private static int RanksOf(TrainOptions options, ParseResult parsed, PipelineMethod method)
    {
        bool stagesGiven = parsed.GetResult(options.Stages) is { Implicit: false };
        int stages = parsed.GetValue(options.Stages);
        if (parsed.GetValue(options.Ranks) is { } ranks)
        {
            return stagesGiven && stages != (method == PipelineMethod.DualPipeV ? 2 * ranks : ranks)
                ? throw new KreweException($"--ranks {ranks} and --stages {stages} contradict each other: leave one out")
                : ranks;
        }

        if (method == PipelineMethod.DualPipeV && stagesGiven)
        {
            return stages % 2 == 0
                ? stages / 2
                : throw new KreweException($"--stages {stages} under dualpipev: every rank holds two, give an even number");
        }

        return stagesGiven || method == PipelineMethod.Sequential ? stages : 0;
    }

    /// <summary>
    /// The run's name. Unnamed runs are <c>default</c>, <c>default-2</c> and so on: a new one takes the first free
    /// name, --resume the last one used.
    /// </summary>
    private static string RunName(TrainOptions options, ParseResult parsed, bool resume)
    {
        string name = parsed.GetValue(options.Run)!;
        bool named = parsed.GetResult(options.Run) is { Implicit: false } || parsed.GetValue(options.Output) is not null;
        if (named || parsed.GetValue(options.Overwrite))
        {
            return name;
        }

        int number = 1;
        while (RunFolder.Newest(Path.Combine("runs", Numbered(number))) is not null)
        {
            number++;
        }

        return Numbered(resume ? Math.Max(1, number - 1) : number);

        string Numbered(int n) => n == 1 ? name : string.Create(System.Globalization.CultureInfo.InvariantCulture, $"{name}-{n}");
    }

    private static List<string> OldCheckpoints(string folder, string? newest, bool resume, bool overwrite)
    {
        if (resume)
        {
            return newest is not null
                ? overwrite ? throw new KreweException("--resume and --overwrite exclude each other") : []
                : throw new KreweException($"{folder} holds no checkpoint to resume from: leave --resume out");
        }

        return newest is null || overwrite
            ? [.. RunFolder.Steps(folder).Select(step => RunFolder.CheckpointOf(folder, step))]
            : throw new KreweException(
                $"{folder} holds checkpoints up to {Path.GetFileName(newest)}: go on with --resume, replace them with " +
                "--overwrite, or name another run with --run");
    }

    private static (string Name, ModelConfig Model) ModelOf(TrainOptions options, ParseResult parsed, string? resumed)
    {
        string? config = parsed.GetValue(options.Config);
        return resumed is not null ? (Path.GetFileName(resumed), ModelConfig.Load(resumed))
            : config is not null ? (config, ModelConfig.Load(config))
            : (parsed.GetValue(options.Preset)!, ModelPresets.Get(parsed.GetValue(options.Preset)!));
    }

    private static TrainingConfig RecipeOf(TrainOptions options, ParseResult parsed) => new()
    {
        Steps = parsed.GetValue(options.Steps),
        BatchSize = parsed.GetValue(options.Batch),
        MicroBatches = parsed.GetValue(options.MicroBatches),
        SequenceLength = parsed.GetValue(options.SequenceLength),
        LearningRate = parsed.GetValue(options.LearningRate),
        WarmupSteps = parsed.GetValue(options.Warmup),
        BiasUpdateSpeed = parsed.GetValue(options.BiasUpdateSpeed),
        BalanceLossAlpha = parsed.GetValue(options.BalanceAlpha),
        BalanceLossScope = parsed.GetValue(options.BalanceScope) == "micro-batch"
            ? BalanceLossScope.MicroBatch
            : BalanceLossScope.Sequence,
        MtpLossWeight = parsed.GetValue(options.MtpWeight),
        Precision = parsed.GetValue(options.Precision)!,
        MomentType = parsed.GetValue(options.Moments) switch
        {
            "float32" => DType.Float32,
            "bfloat16" => DType.BFloat16,
            _ => PrecisionRecipe.Get(parsed.GetValue(options.Precision)!).Moments,
        },
        Seed = parsed.GetValue(options.Seed),
    };

    /// <summary>Checks the size of the tokenizer and gives the model its first and last token.</summary>
    private static (string? Path, ModelConfig Model) TokenizerOf(
        string? path, ModelConfig model, bool resume, string sample)
    {
        path = path == "bytes" ? null : path;
        Tokenizer tokenizer = path is null ? new ByteTokenizer() : Tokenizer.Load(path);
        tokenizer.EnsureFits(model.VocabSize);
        int prompt = tokenizer.Encode(sample).Length + 1;
        if (prompt >= model.MaxPositionEmbeddings)
        {
            throw new KreweException(
                $"--sample has {prompt} tokens, the model reads {model.MaxPositionEmbeddings}: give a shorter prompt");
        }

        bool same = model.BosTokenId == tokenizer.BosId && model.EosTokenId == tokenizer.EosId;
        ModelConfig fitted = same || resume
            ? model
            : model with { BosTokenId = tokenizer.BosId, EosTokenId = tokenizer.EosId };
        return (path is null ? null : Path.GetFullPath(path), fitted);
    }

    private static string? DataOf(string? path)
    {
        if (path is null)
        {
            return null;
        }

        string full = Path.GetFullPath(path);
        return File.Exists(full) || Directory.Exists(full)
            ? full
            : throw new KreweException($"no training data at '{full}': neither a file nor a folder");
    }

    private static long CheckpointEveryOf(TrainOptions options, ParseResult parsed)
    {
        long every = parsed.GetValue(options.CheckpointEvery);
        return every > 0 && parsed.GetValue(options.NoCheckpoint)
            ? throw new KreweException("--no-checkpoint and --checkpoint-every exclude each other")
            : every;
    }

    private static void EnsureFitsMemory(
        string modelName, ModelConfig model, TrainingConfig recipe, IReadOnlyList<DeviceName> devices)
    {
        ParameterCounts counts = ParameterCounts.Of(model);
        int bytes = 8 + (recipe.MomentType == DType.BFloat16 ? 4 : 8);
        double needed = (double)(counts.Total + counts.Mtp) * bytes;
        (string where, long available) = MemoryOf(devices);
        if (needed > available)
        {
            throw new KreweException(
                $"{modelName} needs {needed / GiB:F0} GiB for weights, gradients and moments, {where} {available / GiB:F0} GiB: " +
                "choose a smaller model");
        }
    }

    /// <summary>The memory that parameters go to; without bound where GPUs and the host share them.</summary>
    private static (string Where, long Bytes) MemoryOf(IReadOnlyList<DeviceName> devices)
    {
        if (!devices.Any(device => device.IsCuda))
        {
            return ("this machine has", GC.GetGCMemoryInfo().TotalAvailableMemoryBytes);
        }

        CudaDeviceInfo[] cards = [.. CudaProbe.Run().Devices.Where(card => devices.Contains(new(card.Index)))];
        // A card that is missing is named later, with the reason.
        return (string.Join(" and ", devices.Distinct()) + " has", devices.All(device => device.IsCuda) && cards.Length > 0
            ? cards.Sum(card => card.MemoryBytes)
            : long.MaxValue);
    }

    private static List<string> NoticesOf(TrainOptions options, ParseResult parsed, bool resume)
    {
        string[] overruled = [.. options.OfRecipe.Where(o => parsed.GetResult(o) is { Implicit: false }).Select(o => o.Name)];
        return resume && overruled.Length > 0
            ? [$"{string.Join(", ", overruled)} ignored: a resumed run keeps its model and recipe"]
            : [];
    }
}
