using Krewe.Grains.Devices;
using Krewe.Model.Checkpoints;

namespace Krewe.Grains.Training;

/// <content>Copies of the run's state: in the memory of the cluster, and on disk behind its back.</content>
public sealed partial class TrainingRunGrain
{
    private Task _sharing = Task.CompletedTask;
    private Task _saving = Task.CompletedTask;
    private int _savingStep = -1;

    /// <summary>Takes the snapshot of a step that is due; what takes long goes on behind the next steps.</summary>
    private async Task SnapshotAsync(bool last)
    {
        bool save = !last && IsDue(_request.CheckpointEvery) && _checkpoint != RunFolder.CheckpointOf(_request.Folder, _step);
        bool share = !last && IsDue(_request.SnapshotEvery) && _sharing.IsCompleted;
        if (save)
        {
            // One checkpoint at a time: the disk sets the pace.
            await _saving;
        }

        if (save)
        {
            // Before the states are taken: a share that ends meanwhile drops what nobody names.
            _savingStep = checked((int)_step);
        }

        if (save || share)
        {
            await TakeAsync();
        }

        if (share)
        {
            _sharing = ShareAsync(Loaded, checked((int)_step));
        }

        if (save)
        {
            _saving = SaveAsync(checked((int)_step));
        }
    }

    private async Task TakeAsync() =>
        await Task.WhenAll(Loaded.States().Select(silo => silo.TakeSnapshotAsync(checked((int)_step), Loaded.Attempt)));

    /// <summary>Sends every place's states round the ring; then the run can go back to this step.</summary>
    private async Task ShareAsync(ClusterModel model, int step)
    {
        try
        {
            IReadOnlyList<IStateHostGrain> states = model.States();
            if (states.Count > 1)
            {
                await Task.WhenAll(states.Select((silo, ordinal) =>
                    silo.ShareSnapshotAsync(step, model.Plan.Peers[model.Plan.KeeperOf(ordinal)])));
            }

            if (model == _model)
            {
                Persist(_state with { SnapshotStep = step, SnapshotSilos = model.Plan.Silos });
                _snapshotLost = false;
                await Task.WhenAll(states.Select(silo => silo.DropSnapshotsAsync([step, _savingStep], model.Attempt)));
            }
        }
        catch (Exception exception) when (IsTransient(exception))
        {
            // The step in progress meets the same fault and recovers from the snapshot before.
            LogSideTask(logger, exception, Name, $"sharing the snapshot of step {step}");
        }
    }

    /// <summary>Writes a checkpoint from the snapshot that was just taken.</summary>
    private async Task SaveAsync(int step)
    {
        _savingStep = step;
        try
        {
            await WriteAsync(step);
        }
        catch (Exception exception) when (IsTransient(exception))
        {
            LogSideTask(logger, exception, Name, $"the checkpoint of step {step}");
        }
        finally
        {
            _savingStep = -1;
        }
    }

    /// <summary>The checkpoint of the run's end, waited for.</summary>
    private async Task SaveNowAsync()
    {
        await _saving;
        await _sharing;
        if (_checkpoint == RunFolder.CheckpointOf(_request.Folder, _step))
        {
            return;
        }

        _savingStep = checked((int)_step);
        await TakeAsync();
        await WriteAsync(_savingStep);
    }

    private async Task WriteAsync(int step)
    {
        var checkpoints = new RunCheckpoints(Loaded, _recipe, _request);
        CheckpointWritten written = await checkpoints.SaveAsync(
            step, _data.PositionAt(step, _origin), _data.Dataset.Tokenizer);
        _checkpoint = written.Folder;
        Persist(_state with { Checkpoint = written.Folder });
        _events.Add(written);
        if (_request.SnapshotEvery == 0 && _model is { } model)
        {
            await Task.WhenAll(model.States().Select(silo => silo.DropSnapshotsAsync([], model.Attempt)));
        }
    }
}
