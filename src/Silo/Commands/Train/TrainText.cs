using Krewe.Grains.Interfaces.Training;

namespace Krewe.Silo.Commands.Train;

/// <summary>Events of a run in words.</summary>
internal static class TrainText
{
    /// <summary>The state of a step in one line of some 70 columns.</summary>
    public static string Step(TrainTracker run)
    {
        string steps = $"{run.Step}/{run.Steps}";
        if (run.Last is not { } last)
        {
            return $"step {steps}";
        }

        string mtp = last.MtpLosses.Length > 0 ? $"  mtp {last.MtpLosses.Average():F3}" : "";
        string left = run.Left is { } time ? $"  {Clock(time)} left" : "";
        return $"step {steps}  loss {last.MainLoss:F3}{mtp}  MaxVio {last.MaxViolation:F2}  " +
            $"{run.RecentRate:F0} tokens/s{left}";
    }

    /// <summary>An evaluation.</summary>
    public static string Evaluation(Evaluated result)
    {
        // Within 80 columns, so that a line above the bar does not wrap into it.
        string agreement = result.MtpAgreement is { } share ? $", MTP agrees {share:P1}" : "";
        return $"held-out at step {result.Step}: {result.Loss:F3} nats/token, {result.NatsPerByte:F3} nats/byte{agreement}";
    }

    /// <summary>A checkpoint.</summary>
    public static string Checkpoint(CheckpointWritten written) =>
        $"checkpoint {Relative(written.Folder)} ({Size(written.Bytes)})";

    /// <summary>A fault that the run has left behind.</summary>
    public static string Recovery(RunRecovered recovered) =>
        $"went back from step {recovered.FromStep} to {recovered.ToStep} after {recovered.Seconds:F1} s on " +
        $"{string.Join(", ", recovered.Silos)}: {recovered.Reason}";

    /// <summary>A change of silos between two steps.</summary>
    public static string Move(RunMoved moved) =>
        $"moved to {string.Join(", ", moved.Silos)} after step {moved.Step} in {moved.Seconds:F1} s";

    /// <summary>Minutes and seconds, hours where there are any.</summary>
    public static string Clock(TimeSpan time) =>
        time.TotalHours >= 1 ? $"{(int)time.TotalHours}:{time:mm\\:ss}" : $"{time:m\\:ss}";

    /// <summary>Bytes in a unit that a person reads.</summary>
    public static string Size(long bytes) => bytes switch
    {
        < 1 << 20 => $"{bytes / 1024.0:F0} KiB",
        < 1 << 30 => $"{bytes / (double)(1 << 20):F1} MiB",
        _ => $"{bytes / (double)(1 << 30):F2} GiB",
    };

    /// <summary>A count in a unit that a person reads.</summary>
    public static string Count(long count) => count switch
    {
        < 10_000 => $"{count}",
        < 1_000_000 => $"{count / 1e3:F0}k",
        < 1_000_000_000 => $"{count / 1e6:F1}M",
        _ => $"{count / 1e9:F1}B",
    };

    /// <summary>The path from here where that is shorter.</summary>
    public static string Relative(string path)
    {
        string relative = Path.GetRelativePath(Environment.CurrentDirectory, path);
        return relative.Length < path.Length && !relative.StartsWith("..", StringComparison.Ordinal) ? relative : path;
    }

    /// <summary>A path as a shell takes it.</summary>
    public static string Quoted(string path) =>
        path.Any(c => !char.IsAsciiLetterOrDigit(c) && c is not ('/' or '.' or '-' or '_'))
            ? $"'{path.Replace("'", "'\\''", StringComparison.Ordinal)}'"
            : path;

    /// <summary>Text that a young model wrote, safe to show: control characters as dots.</summary>
    public static string Shown(string text) =>
        string.Concat(text.Select(c => char.IsControl(c) && c is not ('\n' or '\r' or '\t') ? '·' : c));

    /// <summary>How this program is called from here: a line that can be copied.</summary>
    public static string Program =>
        Environment.ProcessPath is { } path && Path.GetFileNameWithoutExtension(path) == "krewe" ? Relative(path) : "krewe";
}
