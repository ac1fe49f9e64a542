using System.Diagnostics;
using Krewe.Grains.Devices;
using Krewe.Model;
using Krewe.Model.Checkpoints;
using Krewe.Model.Layers;
using Krewe.Model.Training;

namespace Krewe.Grains.Training;

/// <content>The steps of a run, from the first to the last.</content>
public sealed partial class TrainingRunGrain
{
    private long _shown;
    private long _evaluated = -1;

    private async Task LoopAsync(bool resumed)
    {
        RunEvent outcome;
        try
        {
            if (!resumed && _step < _recipe.Steps)
            {
                await GuardAsync(EvaluateAsync);
            }

            while (_step < _recipe.Steps && !_stop && !_leaving)
            {
                await GuardAsync(StepAsync);
                await GuardAsync(AfterStepAsync);
            }

            if (!_leaving)
            {
                if (!_request.WithoutCheckpoint)
                {
                    await GuardAsync(SaveNowAsync);
                }

                await GuardAsync(EvaluateAsync);
            }

            if (_leaving)
            {
                await HandOverAsync();
                return;
            }

            outcome = new RunFinished(_step, _stop, _checkpoint);
        }
        catch (SupersededException exception)
        {
            // Nothing of the run is this activation's any more, neither its silos' memory nor its state.
            LogInterruption(logger, exception, Name, _step);
            _phase = "Idle";
            return;
        }
        catch (Exception exception) when (_leaving && IsTransient(exception))
        {
            // The silo's parts of the run went while the step was under way: the next activation goes back.
            LogInterruption(logger, exception, Name, _step);
            return;
        }
        catch (Exception exception)
        {
            // Whatever ended the loop is the run's outcome: watchers get it as an event.
            LogFailure(logger, exception, Name, _step);
            outcome = RunFailed.By(exception);
        }

        await EndAsync(outcome);
    }

    /// <summary>Frees everything, before anybody learns that the run is over and starts another of its name.</summary>
    private async Task EndAsync(RunEvent outcome)
    {
        await UnloadAsync();
        _phase = outcome is RunFinished ? "Finished" : "Failed";
        Persist(_state with { Phase = _phase, Committed = _step });
        _events.End(outcome);
    }

    /// <summary>One step, and what must happen between two steps.</summary>
    private async Task StepAsync()
    {
        await FollowClusterAsync();
        long started = Stopwatch.GetTimestamp();
        var trainer = new Trainer(Loaded, Loaded.Config, _recipe);
        PreparedStep prepared = await trainer.PrepareAsync(_step, _data.At(_step, _origin));
        StepReport report = prepared.Report;
        if (!double.IsFinite(report.TotalLoss))
        {
            throw new DivergedException(
                $"the loss of step {_step + 1} is {report.TotalLoss}: lower the learning rate ({_recipe.LearningRate}) " +
                "or resume from an older checkpoint");
        }

        Commit(report);
        faults.Reached(FaultPoints.Commit, _step + 1, hosts.First);
        await FinishAsync(trainer, prepared);
        _step++;
        if (_step > _shown)
        {
            _shown = _step;
            _events.Add(new StepCommitted(report, Stopwatch.GetElapsedTime(started).TotalSeconds));
        }
    }

    /// <summary>What is due after a step.</summary>
    private async Task AfterStepAsync()
    {
        bool last = _step == _recipe.Steps || _stop;
        await SnapshotAsync(last);
        if (!last && IsDue(_request.EvaluateEvery))
        {
            await EvaluateAsync();
        }
    }

    private ClusterModel Loaded => _model ?? throw new InvalidOperationException($"run '{Name}' has no model loaded");

    /// <summary>
    /// AdamW everywhere. Once committed a step is driven to its end: a call that was lost on the way is made again, the
    /// owners apply a step once.
    /// </summary>
    private async Task FinishAsync(Trainer trainer, PreparedStep prepared)
    {
        try
        {
            await trainer.FinishAsync(prepared);
        }
        catch (Exception exception) when (IsTransient(exception) && Lost().Count == 0)
        {
            LogInterruption(logger, exception, Name, _step);
            await trainer.FinishAsync(prepared);
        }
    }

    /// <summary>Writes down that a step's gradients are complete and will be applied.</summary>
    private void Commit(StepReport report)
    {
        ThrowIfSuperseded();
        Model.Data.ReaderPosition position = _data.PositionAt(_step, _origin);
        bool same = _journal.Add(new(
            _step, report.TotalLoss, report.MtpLosses, report.GradientNorm, report.LearningRate, report.MaxViolation,
            report.Tokens, position.Epoch, position.Window));
        if (!same)
        {
            LogReplay(logger, Name, _step);
        }

        Persist(_state with { Committed = _step + 1 });
    }

    private void Persist(RunState state)
    {
        _state = state;
        if (Directory.Exists(_request.Folder))
        {
            state.Write(_request.Folder);
        }
    }

    /// <summary>Another activation drives the run: this one belonged to a silo that was declared dead.</summary>
    private void ThrowIfSuperseded()
    {
        if (RunState.Read(_request.Folder) is { } newest && newest.Epoch > _state.Epoch)
        {
            throw new SupersededException(Name);
        }
    }

    /// <summary>Frees the model on every silo: what is worth keeping is in the checkpoints.</summary>
    private async Task UnloadAsync()
    {
        // Nobody may still read the states that are freed.
        await Task.WhenAll(_sharing, _saving)
            .ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        try
        {
            if (_model is not null)
            {
                await _model.DisposeAsync();
            }
        }
        catch (Exception exception)
        {
            LogFailure(logger, exception, Name, _step);
        }

        _model = null;
    }

    private bool IsDue(long every) => every > 0 && _step % every == 0;

    /// <summary>Evaluates the held-out part, where there is one.</summary>
    private async Task EvaluateAsync()
    {
        if (_request.EvaluationWindows == 0)
        {
            return;
        }

        var trainer = new Trainer(Loaded, Loaded.Config, _recipe);
        double sum = 0, mtpSum = 0;
        long count = 0, mtpCount = 0, same = 0, compared = 0;
        foreach (MicroBatch batch in _data.HeldOut(_request.EvaluationWindows))
        {
            // The slot of the first micro-batch: an evaluation needs no memory of its own.
            MicroBatchReport report = await Loaded.RunAsync(
                0, _step, batch, trainer.Options([batch], ForwardMode.Evaluation));
            sum += report.Losses.MainSum;
            count += report.Losses.MainCount;
            mtpSum += report.Losses.MtpSums.FirstOrDefault();
            mtpCount += report.Losses.MtpCounts.FirstOrDefault();
            same += report.Losses.Agreements;
            compared += report.Losses.AgreementCount;
        }

        if (count == 0 || _evaluated >= _step)
        {
            return;
        }

        _evaluated = _step;
        double loss = sum / count;
        _events.Add(new Evaluated(
            _step, loss, loss / _data.Dataset.BytesPerToken, mtpCount > 0 ? mtpSum / mtpCount : null,
            compared > 0 ? (double)same / compared : null, count));
    }
}
