using Orleans.Runtime;

namespace Krewe.Grains.Training;

/// <content>How the run leaves a silo that stops: after the step in progress, so that the next activation loses none.</content>
public sealed partial class TrainingRunGrain
{
    /// <summary>A step that takes longer is given up: the silo shall be gone within seconds.</summary>
    private static readonly TimeSpan LeavingDeadline = TimeSpan.FromSeconds(5);

    private Task _loop = Task.CompletedTask;
    private CancellationTokenRegistration _stopping;
    private volatile bool _leaving;

    /// <inheritdoc/>
    public override Task OnActivateAsync(CancellationToken cancellationToken)
    {
        // Orleans lets a grain go when none of its calls is under way, and watchers always have one.
        TaskScheduler turns = TaskScheduler.Current;
        _stopping = lifetime.ApplicationStopping.Register(() =>
        {
            _leaving = true;
            _ = Task.Factory.StartNew(ReleaseCallers, CancellationToken.None, TaskCreationOptions.None, turns);
        });
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public override async Task OnDeactivateAsync(DeactivationReason reason, CancellationToken cancellationToken)
    {
        // The next activation, on another silo, goes on from the run's state.
        _leaving = true;
        ReleaseCallers();
        await _stopping.DisposeAsync();
        try
        {
            await _loop.WaitAsync(LeavingDeadline, clock, cancellationToken);
        }
        catch (Exception exception) when (exception is TimeoutException or OperationCanceledException)
        {
            LogInterruption(logger, exception, Name, _step);
        }
    }

    /// <summary>Watchers and drains ask again, and reach the next activation.</summary>
    private void ReleaseCallers()
    {
        _events.Close();
        foreach (TaskCompletionSource drained in _drained.Values)
        {
            drained.TrySetException(new SiloUnavailableException($"the silo that drives run '{Name}' leaves: ask again"));
        }

        _drained.Clear();
    }

    /// <summary>Says that every owner has the committed step: the next activation need not go back to a snapshot.</summary>
    private async Task HandOverAsync()
    {
        await _sharing;
        if (_model is not null && _step == _state.Committed)
        {
            ThrowIfSuperseded();
            Persist(_state with { Driver = "", HandedOver = _step, Silos = _model.Plan.Silos, Draining = [.. _draining] });
        }
    }
}
