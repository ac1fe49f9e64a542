using System.Diagnostics;
using System.Runtime.CompilerServices;
using Krewe.Grains.Interfaces.Training;

namespace Krewe.Silo.Commands.Train;

/// <summary>
/// The events of a run as one stream, each step once, although the grain that tells them may die with its silo and tell
/// some again on another.
/// </summary>
/// <param name="grain">The run.</param>
/// <param name="folder">Its folder, where a grain that was activated anew finds what it was doing.</param>
/// <param name="firstStep">Steps committed at the start.</param>
internal sealed class RunFollower(ITrainingRunGrain grain, string folder, long firstStep)
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(5);
    private static readonly TimeSpan RetryDelay = TimeSpan.FromMilliseconds(300);

    private long _step = firstStep;
    private long _evaluated = -1;
    private long _checkpoint = -1;
    private long _lost;
    private readonly HashSet<(long From, long To, double Seconds)> _changes = [];

    /// <summary>The events, up to the run's end.</summary>
    /// <param name="stop">Once cancelled, a grain that was activated anew is asked to stop too.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    public async IAsyncEnumerable<RunEvent> ReadAsync(
        CancellationToken stop, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        while (true)
        {
            await using IAsyncEnumerator<RunEvent> events = grain.WatchAsync(cancellationToken).GetAsyncEnumerator(cancellationToken);
            while (await NextAsync(events) is { } happened)
            {
                _lost = 0;
                if (!IsNews(happened))
                {
                    continue;
                }

                yield return happened;
                if (happened is RunFinished or RunFailed)
                {
                    yield break;
                }
            }

            await Task.Delay(RetryDelay, cancellationToken);
            await AttendAsync(stop);
        }
    }

    /// <summary>The next event, or null where the grain has gone.</summary>
    private async Task<RunEvent?> NextAsync(IAsyncEnumerator<RunEvent> events)
    {
        try
        {
            return await events.MoveNextAsync() ? events.Current : null;
        }
        catch (Exception exception) when (exception is not OperationCanceledException && IsPatient())
        {
            // The silo that drove the run died, or a gateway did: others go on.
            return null;
        }
    }

    /// <summary>Counted from the first call that failed: steps may take longer than the patience.</summary>
    private bool IsPatient()
    {
        _lost = _lost == 0 ? Stopwatch.GetTimestamp() : _lost;
        return Stopwatch.GetElapsedTime(_lost) < Patience;
    }

    private async Task AttendAsync(CancellationToken stop)
    {
        try
        {
            await grain.AttendAsync(folder);
            if (stop.IsCancellationRequested)
            {
                await grain.StopAsync();
            }
        }
        catch (Exception exception) when (exception is not OperationCanceledException)
        {
            // Asked again with the next try; the patience of the reading ends it.
        }
    }

    private bool IsNews(RunEvent happened) => happened switch
    {
        StepCommitted step => Raise(ref _step, step.Report.Step + 1),
        Evaluated evaluated => Raise(ref _evaluated, evaluated.Step),
        CheckpointWritten written => Raise(ref _checkpoint, written.Step),
        RunMoved moved => _changes.Add((moved.Step, moved.Step, moved.Seconds)),
        RunRecovered recovered => _changes.Add((recovered.FromStep, recovered.ToStep, recovered.Seconds)),
        _ => true,
    };

    private static bool Raise(ref long value, long to)
    {
        bool higher = to > value;
        value = Math.Max(value, to);
        return higher;
    }
}
