using System.Diagnostics;
using Krewe.Grains.Interfaces.Devices;
using Krewe.Model;
using Krewe.Model.Checkpoints;
using Krewe.Model.Configuration;
using Orleans.Runtime;

namespace Krewe.Grains.Training;

/// <content>What the run does when something dies.</content>
public sealed partial class TrainingRunGrain
{
    /// <summary>Longest time without a committed step that is spent on recovering.</summary>
    private static readonly TimeSpan RecoveryDeadline = TimeSpan.FromMinutes(5);

    private static readonly TimeSpan RetryDelay = TimeSpan.FromMilliseconds(100);

    private long _attempt;
    private bool _moving;
    private bool _snapshotLost;
    private RunState? _handedOver;

    /// <summary>Faults of the cluster are met by going back; faults of the run's input and numbers are not.</summary>
    private static bool IsTransient(Exception exception) =>
        exception is not (KreweException or DivergedException or SupersededException or StrandedException);

    /// <summary>Does a piece of the run, and does it again after a recovery as long as the cluster lets it fail.</summary>
    private async Task GuardAsync(Func<Task> piece)
    {
        long since = 0;
        int failures = 0;
        while (!_leaving)
        {
            try
            {
                await piece();
                return;
            }
            catch (Exception exception) when (IsTransient(exception) && !_leaving)
            {
                since = since == 0 ? Stopwatch.GetTimestamp() : since;
                if (Stopwatch.GetElapsedTime(since) > RecoveryDeadline)
                {
                    throw;
                }

                LogInterruption(logger, exception, Name, _step);
                long before = _step;
                await RecoverAsync(exception, since);
                // What fails at once and again is not the cluster's fault; it shall not spin until the deadline.
                await Task.Delay(failures * RetryDelay, clock);
                failures++;
                if (_step < before && piece != StepAsync)
                {
                    // A piece that follows the steps: first the steps that were lost.
                    while (_step < before && !_leaving)
                    {
                        await GuardAsync(StepAsync);
                    }
                }
            }
        }
    }

    /// <summary>A grain that was activated anew takes the run up where its state says.</summary>
    private async Task ResumeAsync(RunState state)
    {
        bool claimed = false;
        try
        {
            if (await IsDrivenElsewhereAsync(state))
            {
                // A second activation, while the cluster sorts out who has died: the first goes on.
                _phase = "Idle";
                DeactivateOnIdle();
                return;
            }

            _request = state.Request;
            _events.Clear();
            await PrepareAsync(_request, null, null);
            _origin = new(state.FirstStep, state.FirstEpoch, state.FirstWindow);
            _step = state.Committed;
            _state = state with
            {
                Epoch = state.Epoch + 1,
                FirstAttempt = NextAttempt(state),
                Driver = Post.Self.Silo,
                DriverProcess = Post.Process,
                HandedOver = -1,
            };
            _state.Claim(_request.Folder);
            claimed = true;
            _draining.UnionWith(state.Draining);
            _handedOver = state.HandedOver == state.Committed ? state : null;
            _attempt = _state.FirstAttempt;
            _journal = RunJournal.Open(_request.Folder, long.MaxValue);
            _checkpoint = _state.Checkpoint;
            _shown = 0;
            await RecoverAsync(
                new OperationCanceledException("the silo that drove the run has gone"), Stopwatch.GetTimestamp());
        }
        catch (SupersededException exception)
        {
            LogInterruption(logger, exception, Name, _step);
            _phase = "Idle";
            return;
        }
        catch (Exception exception) when (IsTransient(exception) && (_leaving || !claimed))
        {
            // Nothing was taken over yet: whoever asks next has it tried again.
            LogInterruption(logger, exception, Name, _step);
            _phase = "Idle";
            return;
        }
        catch (Exception exception)
        {
            LogFailure(logger, exception, Name, _step);
            if (claimed)
            {
                await EndAsync(RunFailed.By(exception));
                return;
            }

            _phase = "Failed";
            _events.End(RunFailed.By(exception));
            return;
        }

        await LoopAsync(resumed: true);
    }

    private async Task<bool> IsDrivenElsewhereAsync(RunState state)
    {
        if (state.DriverProcess == Post.Process || places.Find(state.Driver) is null)
        {
            return false;
        }

        TensorPeer driver = await GrainFactory.GetGrain<IDeviceGrain>(state.Driver).PeerAsync();
        return driver.Process == state.DriverProcess;
    }

    /// <summary>Places of the plan that are no longer there.</summary>
    private List<string> Lost() => _model is null ? [] : [.. _model.Plan.Silos.Except(places.Names())];

    /// <summary>Brings every living silo to one step, with all owners placed and loaded, and moves the run there.</summary>
    private async Task RecoverAsync(Exception reason, long since)
    {
        string phase = _phase == "Stopping" ? "Stopping" : "Training";
        _phase = "Recovering";
        long started = Stopwatch.GetTimestamp();
        long from = _step;
        while (true)
        {
            try
            {
                await ReturnAsync();
                break;
            }
            catch (Exception exception) when (IsTransient(exception) && !_leaving
                && Stopwatch.GetElapsedTime(since) < RecoveryDeadline)
            {
                // Another silo may be dying: its death is declared within seconds, then the next try leaves it out.
                LogInterruption(logger, exception, Name, _step);
                _snapshotLost |= exception is SnapshotLostException && _handedOver is null;
                _handedOver = null;
                await Task.Delay(RetryDelay, clock);
            }
        }

        _phase = phase;
        _handedOver = null;
        CompleteDrains();
        _events.Add(new RunRecovered(
            from, _step, Stopwatch.GetElapsedTime(started).TotalSeconds, OneLine(reason.Message), Loaded.Plan.Silos));
    }

    private async Task ReturnAsync()
    {
        ThrowIfSuperseded();
        // One may have lost a device and live on.
        await places.RefreshAsync(all: true);
        if (places.Untold() is [string untold, ..])
        {
            // It may be all that holds a state of this run: who is asked again has answered, or is declared dead.
            throw new TimeoutException($"run '{Name}': silo '{untold}' has not said which devices it has");
        }

        _attempt = Math.Max(_attempt, _model?.Attempt ?? 0) + 1;
        if (!_moving && _model is { } model && Lost().Count == 0 && await IsWholeAsync(model))
        {
            // Nobody died and nobody moved: the step is run again where it stands.
            return;
        }

        string[] living = [.. places.Names().Where(silo => !_draining.Contains(silo))];
        if (living.Length == 0)
        {
            throw (Exception?)await StrandedAsync()
                ?? new InvalidOperationException($"run '{Name}' has no silo to run on");
        }

        string[] leaving = [.. places.Names().Where(silo => _draining.Contains(silo))];
        (ModelSource source, long step) = await OriginAsync(living, leaving);
        string[] chosen = Chosen(living);
        await MoveAsync(source, chosen, [.. leaving, .. living.Except(chosen), .. places.Retired()]);
        _step = step;
    }

    /// <summary>
    /// What to tell where every place has lost its device; the run's own is one of them: none can join.
    /// </summary>
    private async Task<StrandedException?> StrandedAsync()
    {
        if (places.LossOf(Post.Self.Silo) is not { } loss)
        {
            return null;
        }

        // One that is being written lies in the host's memory already.
        await _saving.ConfigureAwait(
            ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        return new(
            $"run '{Name}' has lost its last device, {loss.Device}: {loss.Cause}; " + (_checkpoint is { } newest
                ? $"--resume goes on from {newest}"
                : "it has written no checkpoint (see --checkpoint-every): start it again"));
    }

    /// <summary>Places and loads everything anew. Interrupted, it must be done again, whoever seems to be in place.</summary>
    private async Task MoveAsync(ModelSource source, string[] chosen, string[] leaving)
    {
        _moving = true;
        _model = await ClusterModel.MoveAsync(GrainFactory, Name, source, chosen, leaving, Layout, _attempt, Post);
        _moving = false;
    }

    /// <summary>True where every owner is in place and has applied just the committed steps.</summary>
    private async Task<bool> IsWholeAsync(ClusterModel model)
    {
        IReadOnlyList<SiloReadiness> silosNow = await model.BeginAsync(_step, _attempt);
        TensorPeer[] peers = await Task.WhenAll(
            model.Plan.Silos.Select(silo => GrainFactory.GetGrain<IDeviceGrain>(silo).PeerAsync()));
        return peers.Zip(model.Plan.Peers).All(pair => pair.First.Process == pair.Second.Process)
            && silosNow.All(silo => silo.Owners == 0 || (silo.LowestStep == _step && silo.HighestStep == _step));
    }

    /// <summary>Where the run can go back to: the snapshot in memory, else the newest checkpoint, else its origin.</summary>
    private async Task<(ModelSource Source, long Step)> OriginAsync(string[] living, string[] leaving)
    {
        var config = ModelConfig.Parse(_request.ConfigJson, "the run's config");
        if (_handedOver is { } left && left.Silos.All(silo => living.Contains(silo) || leaving.Contains(silo)))
        {
            // The activation before left between two steps, and all who hold the run are still there.
            var states = new SnapshotSource
            {
                Step = checked((int)left.HandedOver),
                Holders = HoldersOf(config, left.Silos, [.. living, .. leaving]),
            };
            return (SourceOf(config, null, left.HandedOver) with { Snapshot = states }, left.HandedOver);
        }

        if (_state.SnapshotStep >= 0 && !_snapshotLost)
        {
            Dictionary<string, string[]> holders = HoldersOf(config, _state.SnapshotSilos, [.. living, .. leaving]);
            if (holders.Values.All(silosOfOwner => silosOfOwner.Length > 0))
            {
                var snapshot = new SnapshotSource { Step = _state.SnapshotStep, Holders = holders };
                return (SourceOf(config, null, _state.SnapshotStep) with { Snapshot = snapshot }, _state.SnapshotStep);
            }
        }

        // Only a checkpoint that this run has written: others may lie in its folder.
        string? newest = _state.Checkpoint;
        long step = newest is null ? 0 : (await Task.Run(() => TrainingManifest.Read(newest))).Step;
        return newest is null || step < _origin.Step
            ? (SourceOf(config, _state.Origin, _origin.Step), _origin.Step)
            : (SourceOf(config, newest, step), step);
    }

    /// <summary>Which of the living silos have the state of each owner, where a plan over some silos was in force.</summary>
    private Dictionary<string, string[]> HoldersOf(ModelConfig config, string[] planned, string[] living)
    {
        TensorPeer[] peers = [.. planned.Select(silo => new TensorPeer(silo, Guid.Empty))];
        PlacementPlan plan = Placement.FirstPlan.Create(config, peers, Layout, 0);
        return ClusterModel.HoldersOf(plan)
            .ToDictionary(owner => owner.Key, owner => owner.Value.Where(living.Contains).ToArray());
    }

    private static string OneLine(string message) =>
        string.Join(' ', message.Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries));
}
