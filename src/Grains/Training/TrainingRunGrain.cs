using System.Runtime.CompilerServices;
using Krewe.Grains.Devices;
using Krewe.Grains.Placement;
using Krewe.Model;
using Krewe.Model.Checkpoints;
using Krewe.Model.Configuration;
using Krewe.Model.Data;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Orleans.Concurrency;

namespace Krewe.Grains.Training;

/// <inheritdoc cref="ITrainingRunGrain"/>
[GrainType("krewe.run"), Reentrant, KeepAlive]
public sealed partial class TrainingRunGrain(
    LivePlaces places, DeviceHosts hosts, TensorPosts posts, FaultPoints faults, TimeProvider clock,
    IHostApplicationLifetime lifetime, ILogger<TrainingRunGrain> logger) : Grain, ITrainingRunGrain
{
    /// <summary>Attempts that no activation reaches.</summary>
    private const long AttemptsOfActivation = 1L << 32;

    private readonly RunEventLog _events = new();
    private RunRequest _request = null!;
    private TrainingConfig _recipe = null!;
    private RunData _data = null!;
    private RunState _state = null!;
    private RunJournal _journal = null!;
    private ClusterModel? _model;
    private string _phase = "Idle";
    private string? _checkpoint;
    private DataOrigin _origin;
    private long _step;
    private bool _stop;

    private string Name => this.GetPrimaryKeyString();

    private TensorPost Post => posts.First;

    private PipelineLayout Layout => new(
        _request.Method,
        _request.Method == Model.Pipeline.PipelineMethod.DualPipeV ? _request.Stages / 2 : _request.Stages);

    /// <inheritdoc/>
    public async Task<RunStarted> StartAsync(RunRequest request)
    {
        if (_phase is "Loading" or "Training" or "Recovering" or "Stopping")
        {
            throw new KreweException($"run '{Name}' is {_phase.ToLowerInvariant()} already");
        }

        _phase = "Loading";
        try
        {
            RunStarted started = await LoadAsync(request);
            _phase = "Training";
            _loop = LoopAsync(resumed: false);
            return started;
        }
        catch (Exception exception)
        {
            _phase = "Failed";
            _events.End(RunFailed.By(exception));
            throw;
        }
    }

    /// <inheritdoc/>
    public async IAsyncEnumerable<RunEvent> WatchAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await foreach (RunEvent happened in _events.ReadAsync(cancellationToken))
        {
            yield return happened;
        }
    }

    /// <inheritdoc/>
    public Task StopAsync()
    {
        _stop = true;
        if (_phase == "Training")
        {
            _phase = "Stopping";
        }

        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public Task<RunStatus> StatusAsync() =>
        Task.FromResult(new RunStatus(_phase, _step, _recipe?.Steps ?? 0, _checkpoint));

    /// <inheritdoc/>
    public Task AttendAsync(string folder)
    {
        // The first call to a grain that was activated anew: the run's folder says what it was doing.
        if (_phase == "Idle" && RunState.Read(folder) is { Phase: "Training" } state && state.Name == Name)
        {
            _phase = "Recovering";
            _loop = ResumeAsync(state);
        }
        else if (_phase == "Idle" && RunState.Read(folder) is { Phase: "Finished" or "Failed" } ended && ended.Name == Name)
        {
            // It ended before its watchers heard of it.
            (_phase, _step, _checkpoint) = (ended.Phase, ended.Committed, RunFolder.Newest(folder));
            _events.End(ended.Phase == "Finished"
                ? new RunFinished(_step, _step < TrainingConfig.Parse(ended.Request.TrainingJson, folder).Steps, _checkpoint)
                : new RunFailed($"run '{Name}' failed; the silo that knew why has gone", IsUserFault: false));
        }

        return Task.CompletedTask;
    }

    private async Task<RunStarted> LoadAsync(RunRequest request)
    {
        _request = request;
        Forget();
        string? resumed = request.Resume ? RunFolder.Newest(request.Folder) : null;
        TrainingManifest? manifest = resumed is null ? null : TrainingManifest.Read(resumed);
        ModelConfig config = await PrepareAsync(request, resumed, manifest?.TrainingJson);
        _step = manifest?.Step ?? 0;
        _origin = new(_step, manifest?.Epoch ?? 0, manifest?.Window ?? 0);
        if (manifest is not null)
        {
            _data.Reader.Seek(new ReaderPosition(manifest.Epoch, manifest.Window, manifest.Fingerprint));
        }

        _checkpoint = resumed;
        await places.RefreshAsync();
        _model = await ClusterModel.CreateAsync(
            GrainFactory, Name, SourceOf(config, resumed, _step), request.Silos, Layout, Post.Process, Post);
        Directory.CreateDirectory(request.Folder);
        RunState? before = RunState.Read(request.Folder);
        _state = new()
        {
            Epoch = (before?.Epoch ?? 0) + 1,
            FirstAttempt = NextAttempt(before),
            Driver = Post.Self.Silo,
            DriverProcess = Post.Process,
            Name = Name,
            Phase = "Training",
            Request = request with { ConfigJson = config.ToJson(), TrainingJson = _recipe.ToJson(), Resume = false },
            Committed = _step,
            FirstStep = _origin.Step,
            FirstEpoch = _origin.Epoch,
            FirstWindow = _origin.Window,
            Origin = resumed,
        };
        await _model.BeginAsync(_step, _state.FirstAttempt);
        _attempt = _state.FirstAttempt;
        _state.Claim(request.Folder);
        _state.Prune(request.Folder);
        _journal = RunJournal.Open(request.Folder, _step);
        return Started(config, request.Silos);
    }

    /// <summary>Forgets what an earlier run of this name left in the grain.</summary>
    private void Forget()
    {
        _stop = false;
        _events.Clear();
        (_shown, _evaluated, _attempt, _savingStep) = (0, -1, 0, -1);
        (_moving, _snapshotLost, _handedOver) = (false, false, null);
        (_sharing, _saving) = (Task.CompletedTask, Task.CompletedTask);
        _draining.Clear();
    }

    /// <summary>Reads and checks recipe and data; returns the model.</summary>
    private async Task<ModelConfig> PrepareAsync(RunRequest request, string? resumed, string? recipe)
    {
        // A resumed run keeps its model and recipe: other ones could not give the same bits.
        ModelConfig config = resumed is null
            ? ModelConfig.Parse(request.ConfigJson, "the model's config")
            : ModelConfig.Load(resumed);
        config.ThrowIfInvalid("the model's config");
        _recipe = TrainingConfig.Parse(recipe ?? request.TrainingJson, "the training recipe");
        _recipe.ThrowIfInvalid("the training recipe");
        if (_recipe.SequenceLength > config.MaxPositionEmbeddings)
        {
            throw new KreweException(
                $"sequences of {_recipe.SequenceLength} tokens are longer than the model's max_position_embeddings " +
                $"of {config.MaxPositionEmbeddings}: shorten them or raise it");
        }

        // A schedule that these numbers do not fit is refused before anything is loaded.
        _ = Model.Pipeline.PipelineSchedule.Create(Layout.Method, Layout.Ranks, _recipe.MicroBatches);
        _data = await Task.Run(() => RunData.Open(request, config, _recipe));
        return config;
    }

    /// <summary>Every activation counts its attempts from a number that no earlier one reached.</summary>
    private long NextAttempt(RunState? before) =>
        Math.Max((before?.FirstAttempt ?? 0) + AttemptsOfActivation, clock.GetUtcNow().UtcTicks);

    private ModelSource SourceOf(ModelConfig config, string? checkpoint, long step) => new()
    {
        ConfigJson = config.ToJson(),
        Checkpoint = checkpoint,
        Resume = checkpoint is not null,
        Seed = _recipe.Seed,
        Training = true,
        MomentType = _recipe.MomentType,
        Precision = _recipe.Precision,
        MaxPositions = config.MaxPositionEmbeddings,
        Step = checked((int)step),
        RunFolder = _request.Folder,
    };

    private RunStarted Started(ModelConfig config, string[] names)
    {
        ParameterCounts counts = ParameterCounts.Of(config);
        return new()
        {
            Corpus = _data.Dataset.Corpus.Name,
            Documents = _data.Dataset.Corpus.Documents.Count,
            TrainingTokens = _data.Dataset.TrainingTokens,
            HeldOutTokens = _data.Dataset.HeldOutTokens,
            Parameters = counts.Total + counts.Mtp,
            FirstStep = _step,
            Steps = _recipe.Steps,
            Notice = _data.Dataset.Corpus.Notice,
            ExpertsOfSilo = names.Select((silo, ordinal) => (silo, ordinal))
                .ToDictionary(pair => pair.silo, pair => _model!.Plan.ExpertsOf(pair.ordinal).Count()),
        };
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "Run {Run} failed after {Step} committed steps")]
    private static partial void LogFailure(ILogger logger, Exception exception, string run, long step);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Run {Run} was interrupted after {Step} committed steps")]
    private static partial void LogInterruption(ILogger logger, Exception exception, string run, long step);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Run {Run}: {What} failed; the run goes on")]
    private static partial void LogSideTask(ILogger logger, Exception exception, string run, string what);

    [LoggerMessage(Level = LogLevel.Error, Message = "Run {Run}: step {Step} was run again and gave other figures")]
    private static partial void LogReplay(ILogger logger, string run, long step);
}
