using Orleans.Concurrency;

namespace Krewe.Grains.Interfaces.Training;

/// <summary>
/// One training run: its phase, recipe, committed step and checkpoints. Key: run name. The run's one source of truth: it
/// drives the step, and when something fails on the way it brings the run back to the last state that every owner has in
/// memory, or to the last checkpoint, and goes on from there. Persisted in the run's folder with every step, so that a
/// grain that is activated anew goes on too.
/// </summary>
[Alias("krewe.ITrainingRunGrain")]
public interface ITrainingRunGrain : IGrainWithStringKey
{
    /// <summary>
    /// Checks the request, opens data and tokenizer, loads the model on every silo (fresh, or from the newest
    /// checkpoint of the run's folder) and starts stepping in the background.
    /// </summary>
    /// <exception cref="Model.KreweException">The request or its data cannot be used; the message is for the
    /// user.</exception>
    [Alias("StartAsync")]
    Task<RunStarted> StartAsync(RunRequest request);

    /// <summary>
    /// What has happened since the run was started (the last few thousand events), then what happens; ends after <see cref="RunFinished"/>
    /// or <see cref="RunFailed"/>.
    /// </summary>
    [Alias("WatchAsync")]
    IAsyncEnumerable<RunEvent> WatchAsync(CancellationToken cancellationToken);

    /// <summary>
    /// Says that a silo holds a part of the run whose folder is given. A run grain that was activated anew, because its
    /// silo died, finds the run there and goes on with it; to others it is no news.
    /// </summary>
    [Alias("AttendAsync"), AlwaysInterleave]
    Task AttendAsync(string folder);

    /// <summary>
    /// Moves everything off a silo, or off one place of it such as <c>silo:1</c>, at the next step boundary and gives
    /// it nothing more; completes when it is done. A silo is all of its places.
    /// </summary>
    /// <exception cref="Model.KreweException">It is the run's only silo, or not one of its silos.</exception>
    [Alias("DrainAsync"), AlwaysInterleave]
    Task DrainAsync(string silo);

    /// <summary>Ends the run after the step in progress, with a checkpoint. Returns at once.</summary>
    [Alias("StopAsync"), AlwaysInterleave]
    Task StopAsync();

    /// <summary>Phase and progress.</summary>
    [Alias("StatusAsync"), AlwaysInterleave]
    Task<RunStatus> StatusAsync();
}

/// <summary>What a run shall do.</summary>
[GenerateSerializer, Immutable, Alias("krewe.RunRequest")]
public sealed record RunRequest
{
    /// <summary>The model's config.json.</summary>
    [Id(0)] public required string ConfigJson { get; init; }

    /// <summary>The recipe: <c>TrainingConfig</c> as JSON.</summary>
    [Id(1)] public required string TrainingJson { get; init; }

    /// <summary>Text file, JSON lines, JSON array or folder; null for the default corpus.</summary>
    [Id(2)] public string? Data { get; init; }

    /// <summary>tokenizer.json or its folder; null for bytes.</summary>
    [Id(3)] public string? Tokenizer { get; init; }

    /// <summary>Folder of the run: checkpoints go to <c>step-000100</c> and so on below it.</summary>
    [Id(4)] public required string Folder { get; init; }

    /// <summary>Names of the places that take part: see <see cref="Devices.PlaceName"/>.</summary>
    [Id(5)] public required string[] Silos { get; init; }

    /// <summary>Number of pipeline stages.</summary>
    [Id(6)] public int Stages { get; init; } = 2;

    /// <summary>Schedule of the pipeline; under DualPipeV every rank holds two of the stages.</summary>
    [Id(14)] public Model.Pipeline.PipelineMethod Method { get; init; }

    /// <summary>
    /// Steps between snapshots in the memory of the cluster, each owner's state with a peer; 0 for none.
    /// </summary>
    [Id(15)] public int SnapshotEvery { get; init; }

    /// <summary>True to give silos that join the cluster their share, at the next step boundary.</summary>
    [Id(16)] public bool Elastic { get; init; }

    /// <summary>Steps between evaluations on the held-out part; 0 for only at the end.</summary>
    [Id(7)] public long EvaluateEvery { get; init; }

    /// <summary>Steps between checkpoints; 0 for only at the end.</summary>
    [Id(8)] public long CheckpointEvery { get; init; }

    /// <summary>
    /// True to write no checkpoint at the end: what the run has learnt goes with it. For measurements.
    /// </summary>
    [Id(17)] public bool WithoutCheckpoint { get; init; }

    /// <summary>Checkpoints that are kept; older ones are deleted.</summary>
    [Id(9)] public int KeepCheckpoints { get; init; } = 2;

    /// <summary>Goes on from the newest checkpoint of the folder, bit for bit.</summary>
    [Id(10)] public bool Resume { get; init; }

    /// <summary>Share of the documents that is held out.</summary>
    [Id(11)] public double HeldOutFraction { get; init; } = 0.02;

    /// <summary>Most held-out windows that one evaluation reads; 0 for no evaluation.</summary>
    [Id(12)] public int EvaluationWindows { get; init; } = 64;

    /// <summary>Storage of checkpoint weights: BFloat16 as released, or Float32.</summary>
    [Id(13)] public Model.Tensors.DType CheckpointType { get; init; } = Model.Tensors.DType.BFloat16;
}

/// <summary>A run that has been set up.</summary>
[GenerateSerializer, Immutable, Alias("krewe.RunStarted")]
public sealed record RunStarted
{
    /// <summary>Name of the corpus.</summary>
    [Id(0)] public required string Corpus { get; init; }

    /// <summary>Documents of the corpus.</summary>
    [Id(1)] public int Documents { get; init; }

    /// <summary>Tokens of the training part.</summary>
    [Id(2)] public long TrainingTokens { get; init; }

    /// <summary>Tokens of the held-out part.</summary>
    [Id(3)] public long HeldOutTokens { get; init; }

    /// <summary>Number of parameters, MTP included.</summary>
    [Id(4)] public long Parameters { get; init; }

    /// <summary>The first step that will run: 0, or the step of the checkpoint.</summary>
    [Id(5)] public long FirstStep { get; init; }

    /// <summary>Steps of the whole run.</summary>
    [Id(6)] public long Steps { get; init; }

    /// <summary>Something the user should know, such as a replaced corpus; null for nothing.</summary>
    [Id(7)] public string? Notice { get; init; }

    /// <summary>Experts per place, by its name.</summary>
    [Id(8)] public required Dictionary<string, int> ExpertsOfSilo { get; init; }
}

/// <summary>Phase and progress of a run.</summary>
/// <param name="Phase">Idle, Loading, Training, Recovering, Stopping, Finished or Failed.</param>
/// <param name="Step">Steps committed.</param>
/// <param name="Steps">Steps of the whole run.</param>
/// <param name="Checkpoint">Folder of the newest checkpoint, or null.</param>
[GenerateSerializer, Immutable, Alias("krewe.RunStatus")]
public sealed record RunStatus(
    [property: Id(0)] string Phase, [property: Id(1)] long Step, [property: Id(2)] long Steps,
    [property: Id(3)] string? Checkpoint);
