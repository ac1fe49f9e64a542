using Krewe.Grains.Interfaces.Training;
using Krewe.Model.Training;

namespace Krewe.Silo.Commands.Train;

/// <summary>What is known of a run so far: a fold over its events, for every kind of view.</summary>
/// <param name="firstStep">Step that the run starts or resumes with.</param>
/// <param name="steps">Steps of the whole run.</param>
internal sealed class TrainTracker(long firstStep, long steps)
{
    private const int Window = 20;

    private readonly Queue<StepCommitted> _recent = new();
    private double _seconds;
    private long _tokens;

    /// <summary>Steps committed.</summary>
    public long Step { get; private set; } = firstStep;

    /// <summary>Steps of the whole run.</summary>
    public long Steps { get; } = steps;

    /// <summary>The last step, or null.</summary>
    public StepReport? Last { get; private set; }

    /// <summary>The first evaluation, or null.</summary>
    public Evaluated? FirstEvaluation { get; private set; }

    /// <summary>The newest evaluation, or null.</summary>
    public Evaluated? LastEvaluation { get; private set; }

    /// <summary>The newest checkpoint, or null.</summary>
    public CheckpointWritten? Checkpoint { get; private set; }

    /// <summary>
    /// How the run ended: <see cref="RunFinished"/> or <see cref="RunFailed"/>; null while it goes on.
    /// </summary>
    public RunEvent? End { get; private set; }

    /// <summary>True once the last step was drawn to a file.</summary>
    public bool Drawn { get; set; }

    /// <summary>What the devices say of the run, where they are GPUs of this process; else null.</summary>
    public TrainDevices? Devices { get; set; }

    /// <summary>Median time of the last 20 steps, seconds; the first ones compile kernels.</summary>
    public double MedianSeconds
    {
        get
        {
            double[] times = [.. _recent.Select(step => step.Seconds).Order()];
            return times.Length == 0 ? double.NaN : (times[times.Length / 2] + times[(times.Length - 1) / 2]) / 2;
        }
    }

    /// <summary>Mean MaxVio of the last 20 steps.</summary>
    public double MaxViolation =>
        _recent.Count == 0 ? double.NaN : _recent.Average(step => step.Report.MaxViolation);

    /// <summary>Tokens a second over the last 20 steps.</summary>
    public double RecentRate =>
        _recent.Count == 0 ? double.NaN : _recent.Sum(s => s.Report.Tokens) / _recent.Sum(s => s.Seconds);

    /// <summary>Tokens a second over all steps of this start.</summary>
    public double MeanRate => _tokens / _seconds;

    /// <summary>Time of all steps of this start.</summary>
    public TimeSpan StepTime => TimeSpan.FromSeconds(_seconds);

    /// <summary>Time that the other steps will take at the recent pace, or null before the first.</summary>
    public TimeSpan? Left => _recent.Count == 0
        ? null
        : TimeSpan.FromSeconds((Steps - Step) * _recent.Average(step => step.Seconds));

    /// <summary>Takes an event in.</summary>
    public void Apply(RunEvent happened)
    {
        switch (happened)
        {
            case StepCommitted step:
                Step = step.Report.Step + 1;
                Last = step.Report;
                _seconds += step.Seconds;
                _tokens += step.Report.Tokens;
                _recent.Enqueue(step);
                if (_recent.Count > Window)
                {
                    _recent.Dequeue();
                }

                break;
            case Evaluated evaluated:
                FirstEvaluation ??= evaluated;
                LastEvaluation = evaluated;
                break;
            case CheckpointWritten written:
                Checkpoint = written;
                break;
            case RunFinished or RunFailed:
                End = happened;
                break;
        }
    }
}
