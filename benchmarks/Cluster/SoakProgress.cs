using System.Diagnostics;
using Krewe.Grains.Interfaces.Training;

namespace Krewe.Cluster;

/// <summary>Events of the run, what was done to it, and how long it stood still each time.</summary>
internal sealed class SoakProgress
{
    /// <summary>A pause within this time after a change is put down to it.</summary>
    private static readonly TimeSpan Reach = TimeSpan.FromSeconds(30);

    private readonly Lock _lock = new();
    private readonly long _start = Stopwatch.GetTimestamp();
    private readonly List<(TimeSpan At, string What, long Step)> _changes = [];
    private readonly List<(TimeSpan From, TimeSpan To)> _gaps = [];
    private readonly List<RunRecovered> _recoveries = [];
    private readonly List<RunMoved> _moves = [];
    private TimeSpan _last;
    private int _checkpoints;

    public Dictionary<long, double> Losses { get; } = [];

    public RunFinished? Finished { get; private set; }

    public void Change(string what)
    {
        lock (_lock)
        {
            _changes.Add((Now, what, Losses.Count));
        }
    }

    public void Add(RunEvent happened)
    {
        lock (_lock)
        {
            switch (happened)
            {
                case StepCommitted step:
                    Losses[step.Report.Step] = step.Report.TotalLoss;
                    _gaps.Add((_last, Now));
                    _last = Now;
                    break;
                case RunRecovered recovered:
                    _recoveries.Add(recovered);
                    break;
                case RunMoved moved:
                    _moves.Add(moved);
                    break;
                case CheckpointWritten:
                    _checkpoints++;
                    break;
                case RunFinished finished:
                    Finished = finished;
                    break;
                case RunFailed failed:
                    Console.WriteLine($"  the run FAILED: {failed.Message}");
                    break;
            }
        }
    }

    public void Report()
    {
        lock (_lock)
        {
            double[] steps = [.. _gaps.Skip(1).Select(gap => (gap.To - gap.From).TotalMilliseconds).Order()];
            Console.WriteLine(
                $"  {Losses.Count} steps in {Now.TotalSeconds:F0} s, {_checkpoints} checkpoints, median step {steps[steps.Length / 2]:F0} ms; " +
                $"the run {(Finished is null ? "did NOT end in order" : "was stopped in order")}");
            foreach ((TimeSpan at, string what, long step) in _changes)
            {
                Console.WriteLine($"    at {at.TotalSeconds,5:F0} s, step {step,5}: {what}; longest pause {Pause(at).TotalSeconds:F2} s");
            }

            Report("after a kill", [.. _changes.Where(change => change.What[0] == 'k').Select(change => Pause(change.At).TotalSeconds)]);
            Report("after an addition", [.. _changes.Where(change => change.What[0] == 'a').Select(change => Pause(change.At).TotalSeconds)]);
            Report("recovery itself", [.. _recoveries.Select(recovery => recovery.Seconds)]);
            Report("move itself", [.. _moves.Select(move => move.Seconds)]);
            Console.WriteLine(
                $"  {_recoveries.Count} recoveries, steps run again: {string.Join(", ", _recoveries.Select(r => r.FromStep - r.ToStep))}; " +
                $"{_moves.Count} moves");
        }
    }

    private TimeSpan Now => Stopwatch.GetElapsedTime(_start);

    private TimeSpan Pause(TimeSpan at) => _gaps.Where(gap => gap.To > at && gap.From < at + Reach)
        .Select(gap => gap.To - gap.From).DefaultIfEmpty().Max();

    private static void Report(string what, double[] seconds)
    {
        if (seconds.Length > 0)
        {
            Console.WriteLine($"  pause {what}, s: {Machine.Spread(seconds, "F2")}");
        }
    }
}
