using System.Text.Json;

namespace Krewe.Grains.Training;

/// <summary>
/// One line of JSON per committed step, in the run's folder: the loss curve, and which windows of the data each step
/// took. A step that is run again after a fault must give its line again, and is not written twice.
/// </summary>
internal sealed class RunJournal
{
    /// <summary>Lines to compare a replay with; no run goes back further in memory.</summary>
    private const int Remembered = 1000;

    private readonly string _path;
    private readonly Dictionary<long, string> _lines = [];
    private long _last = -1;

    private RunJournal(string path) => _path = path;

    /// <summary>A committed step.</summary>
    public sealed record Entry(
        long Step, double Loss, double[] MtpLosses, double GradientNorm, double LearningRate, double MaxViolation, int Tokens,
        long Epoch, long Window);

    /// <summary>Opens a run's journal, without what came after <paramref name="steps"/> committed steps.</summary>
    public static RunJournal Open(string run, long steps)
    {
        var journal = new RunJournal(Path.Combine(run, "journal.jsonl"));
        if (!File.Exists(journal._path))
        {
            return journal;
        }

        using (var kept = new StreamWriter(journal._path + ".new"))
        {
            foreach (string line in File.ReadLines(journal._path))
            {
                // A machine that died may have left half a line, or a line twice.
                if (TryRead(line) is { } entry && entry.Step > journal._last && entry.Step < steps)
                {
                    kept.WriteLine(line);
                    journal.Keep(entry.Step, line);
                }
            }
        }

        File.Move(journal._path + ".new", journal._path, overwrite: true);
        return journal;
    }

    /// <summary>Adds a step. Returns false where it was there before with other figures: the replay was not exact.</summary>
    public bool Add(Entry entry)
    {
        string line = JsonSerializer.Serialize(entry, JsonSerializerOptions.Web);
        if (entry.Step <= _last)
        {
            return !_lines.TryGetValue(entry.Step, out string? before) || before == line;
        }

        File.AppendAllText(_path, line + Environment.NewLine);
        Keep(entry.Step, line);
        return true;
    }

    private void Keep(long step, string line)
    {
        _lines[step] = line;
        _lines.Remove(step - Remembered);
        _last = step;
    }

    private static Entry? TryRead(string line)
    {
        try
        {
            return JsonSerializer.Deserialize<Entry>(line, JsonSerializerOptions.Web);
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
