using System.Diagnostics;
using Krewe.Model;

namespace Krewe.Grains.Training;

/// <content>Places that join the run between two steps, and places that it leaves.</content>
public sealed partial class TrainingRunGrain
{
    private readonly HashSet<string> _draining = new(StringComparer.Ordinal);
    private readonly Dictionary<string, TaskCompletionSource> _drained = [];

    /// <inheritdoc/>
    public async Task DrainAsync(string silo)
    {
        await places.RefreshAsync();
        if (_model is null || _phase is "Finished" or "Failed" or "Idle")
        {
            return;
        }

        string[] living = [.. places.Names()];
        if (!living.Any(place => !PlaceName.IsOf(place, silo) && !_draining.Contains(place)))
        {
            throw new KreweException($"silo '{silo}' is the last one of run '{Name}': start another before it leaves");
        }

        _draining.UnionWith(living.Where(place => PlaceName.IsOf(place, silo)).Append(silo));
        if (!Holds(silo))
        {
            return;
        }

        if (!_drained.TryGetValue(silo, out TaskCompletionSource? done))
        {
            _drained.Add(silo, done = new(TaskCreationOptions.RunContinuationsAsynchronously));
        }

        await done.Task;
    }

    /// <summary>True where the run has something on a silo or place.</summary>
    private bool Holds(string silo) => Loaded.Plan.Silos.Any(place => PlaceName.IsOf(place, silo));

    /// <summary>
    /// Between two steps: gives places that joined their share, and moves everything off those that leave.
    /// </summary>
    private async Task FollowClusterAsync()
    {
        if (!_request.Elastic && _draining.Count == 0)
        {
            return;
        }

        await places.RefreshAsync();
        string[] all = [.. places.Names()];
        // One that comes back under its old name is another one.
        _draining.IntersectWith(all);
        string[] wanted = Chosen([.. all.Where(silo => !_draining.Contains(silo))]);
        string[] now = Loaded.Plan.Silos;
        if (Lost() is [{ } lost, ..])
        {
            throw new SiloUnavailableException($"silo '{lost}' has gone");
        }

        if (wanted.Length == 0 || wanted.ToHashSet().SetEquals(now))
        {
            CompleteDrains();
            return;
        }

        ThrowIfSuperseded();
        long started = Stopwatch.GetTimestamp();
        await _sharing;
        await _saving;
        _attempt = Math.Max(_attempt, Loaded.Attempt) + 1;
        var source = SourceOf(Loaded.Config, null, _step) with
        {
            Snapshot = new() { Step = checked((int)_step), Holders = Loaded.Holders() },
        };
        await MoveAsync(source, wanted, [.. all.Except(wanted)]);
        if (_request.SnapshotEvery > 0)
        {
            // The old snapshot may be with a silo that leaves.
            await TakeAsync();
            await ShareAsync(Loaded, checked((int)_step));
        }

        _events.Add(new RunMoved(_step, Stopwatch.GetElapsedTime(started).TotalSeconds, wanted));
        CompleteDrains();
    }

    /// <summary>Answers whoever drains a silo that holds nothing of the run any more.</summary>
    private void CompleteDrains()
    {
        foreach (string silo in _drained.Keys.Where(silo => !Holds(silo)).ToArray())
        {
            _drained.Remove(silo, out TaskCompletionSource? done);
            done!.TrySetResult();
        }
    }

    /// <summary>An elastic run takes every place, another one those that it was started on.</summary>
    private string[] Chosen(string[] living)
    {
        string[] own = [.. living.Where(_request.Silos.Contains)];
        return _request.Elastic || own.Length == 0 ? living : own;
    }
}
