using System.Diagnostics;
using System.Runtime.CompilerServices;
using Krewe.Model;
using Krewe.Model.Checkpoints;
using Krewe.Model.Configuration;
using Krewe.Model.Data;
using Krewe.Model.Layers;
using Krewe.Model.Training;
using Microsoft.Extensions.Logging;
using Orleans.Concurrency;

namespace Krewe.Grains.Training;

/// <inheritdoc cref="ITrainingRunGrain"/>
[GrainType("krewe.run"), Reentrant, KeepAlive]
public sealed partial class TrainingRunGrain(ILogger<TrainingRunGrain> logger) : Grain, ITrainingRunGrain
{
    private readonly RunEventLog _events = new();
    private RunRequest _request = null!;
    private TrainingConfig _recipe = null!;
    private RunData _data = null!;
    private ClusterModel _model = null!;
    private RunCheckpoints _checkpoints = null!;
    private string _phase = "Idle";
    private string? _checkpoint;
    private long _step;
    private bool _stop;

    /// <inheritdoc/>
    public async Task<RunStarted> StartAsync(RunRequest request)
    {
        if (_phase is "Loading" or "Training" or "Stopping")
        {
            throw new KreweException($"run '{this.GetPrimaryKeyString()}' is {_phase.ToLowerInvariant()} already");
        }

        _phase = "Loading";
        try
        {
            RunStarted started = await LoadAsync(request);
            _phase = "Training";
            _ = LoopAsync();
            return started;
        }
        catch (Exception exception)
        {
            _phase = "Failed";
            _events.End(new RunFailed(exception.Message, exception is KreweException));
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

    private async Task<RunStarted> LoadAsync(RunRequest request)
    {
        string name = this.GetPrimaryKeyString();
        _request = request;
        _stop = false;
        _events.Clear();
        string? resumed = request.Resume ? RunFolder.Newest(request.Folder) : null;
        TrainingManifest? manifest = resumed is null ? null : TrainingManifest.Read(resumed);
        // A resumed run keeps its model and recipe: other ones could not give the same bits.
        ModelConfig config = resumed is null
            ? ModelConfig.Parse(request.ConfigJson, "the model's config")
            : ModelConfig.Load(resumed);
        config.ThrowIfInvalid("the model's config");
        _recipe = TrainingConfig.Parse(manifest?.TrainingJson ?? request.TrainingJson, "the training recipe");
        _recipe.ThrowIfInvalid("the training recipe");
        if (_recipe.SequenceLength > config.MaxPositionEmbeddings)
        {
            throw new KreweException(
                $"sequences of {_recipe.SequenceLength} tokens are longer than the model's max_position_embeddings " +
                $"of {config.MaxPositionEmbeddings}: shorten them or raise it");
        }

        _data = await Task.Run(() => RunData.Open(request, config, _recipe));
        if (manifest is not null)
        {
            _data.Reader.Seek(new ReaderPosition(manifest.Epoch, manifest.Window, manifest.Fingerprint));
        }

        _step = manifest?.Step ?? 0;
        _checkpoint = resumed;
        _model = await ClusterModel.CreateAsync(
            GrainFactory, name,
            new()
            {
                ConfigJson = config.ToJson(),
                Checkpoint = resumed,
                Resume = resumed is not null,
                Seed = _recipe.Seed,
                Training = true,
                MomentType = _recipe.MomentType,
                MaxPositions = config.MaxPositionEmbeddings,
            },
            request.Silos, request.Stages);
        _checkpoints = new(_model, _recipe, request);
        Directory.CreateDirectory(request.Folder);
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
            ExpertsOfSilo = request.Silos.Select((silo, ordinal) => (silo, ordinal))
                .ToDictionary(pair => pair.silo, pair => _model.Plan.ExpertsOf(pair.ordinal).Count()),
        };
    }

    private async Task LoopAsync()
    {
        RunEvent outcome;
        try
        {
            var trainer = new Trainer(_model, _model.Config, _recipe);
            if (_step < _recipe.Steps)
            {
                await EvaluateAsync(trainer);
            }

            while (_step < _recipe.Steps && !_stop)
            {
                long started = Stopwatch.GetTimestamp();
                StepReport report = await trainer.StepAsync(_step, _data.Next());
                _step++;
                if (!double.IsFinite(report.TotalLoss))
                {
                    throw new DivergedException(
                        $"the loss of step {_step} is {report.TotalLoss}: lower the learning rate ({_recipe.LearningRate}) " +
                        "or resume from an older checkpoint");
                }

                _events.Add(new StepCommitted(report, Stopwatch.GetElapsedTime(started).TotalSeconds));
                bool last = _step == _recipe.Steps || _stop;
                if (!last && IsDue(_request.CheckpointEvery))
                {
                    await SaveAsync();
                }

                if (!last && IsDue(_request.EvaluateEvery))
                {
                    await EvaluateAsync(trainer);
                }
            }

            await SaveAsync();
            await EvaluateAsync(trainer);
            outcome = new RunFinished(_step, _stop, _checkpoint);
        }
        catch (Exception exception)
        {
            // Whatever ended the loop is the run's outcome: watchers get it as an event.
            LogFailure(logger, exception, this.GetPrimaryKeyString(), _step);
            outcome = new RunFailed(exception.Message, exception is KreweException);
        }

        // Before anybody learns that the run is over and starts another of its name.
        await UnloadAsync();
        _phase = outcome is RunFinished ? "Finished" : "Failed";
        _events.End(outcome);
    }

    /// <summary>Frees the model on every silo: what is worth keeping is in the checkpoints.</summary>
    private async Task UnloadAsync()
    {
        try
        {
            await _model.DisposeAsync();
        }
        catch (Exception exception)
        {
            LogFailure(logger, exception, this.GetPrimaryKeyString(), _step);
        }
    }

    private bool IsDue(long every) => every > 0 && _step % every == 0;

    private async Task SaveAsync()
    {
        if (_checkpoint == RunFolder.CheckpointOf(_request.Folder, _step))
        {
            return;
        }

        CheckpointWritten written = await _checkpoints.SaveAsync(_step, _data);
        _checkpoint = written.Folder;
        _events.Add(written);
    }

    /// <summary>Evaluates the held-out part, where there is one.</summary>
    private async Task EvaluateAsync(Trainer trainer)
    {
        double sum = 0, mtpSum = 0;
        long count = 0, mtpCount = 0, same = 0, compared = 0;
        foreach (MicroBatch batch in _data.HeldOut(_request.EvaluationWindows))
        {
            // The slot of the first micro-batch: an evaluation needs no memory of its own.
            MicroBatchReport report = await _model.RunAsync(
                0, _step, batch, trainer.Options([batch], ForwardMode.Evaluation));
            sum += report.Losses.MainSum;
            count += report.Losses.MainCount;
            mtpSum += report.Losses.MtpSums.FirstOrDefault();
            mtpCount += report.Losses.MtpCounts.FirstOrDefault();
            same += report.Losses.Agreements;
            compared += report.Losses.AgreementCount;
        }

        if (count == 0)
        {
            return;
        }

        double loss = sum / count;
        _events.Add(new Evaluated(
            _step, loss, loss / _data.Dataset.BytesPerToken, mtpCount > 0 ? mtpSum / mtpCount : null,
            compared > 0 ? (double)same / compared : null, count));
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "Run {Run} failed after {Step} committed steps")]
    private static partial void LogFailure(ILogger logger, Exception exception, string run, long step);
}
