using System.Globalization;

namespace Krewe.Model.Checkpoints;

/// <summary>The folder of a training run: one checkpoint per saved step, named <c>step-000100</c>.</summary>
public static class RunFolder
{
    private const string Prefix = "step-";

    /// <summary>Folder of the checkpoint of a step.</summary>
    public static string CheckpointOf(string run, long step) =>
        Path.Combine(run, string.Create(CultureInfo.InvariantCulture, $"{Prefix}{step:000000}"));

    /// <summary>Steps with a complete checkpoint that a run can go on from, rising.</summary>
    public static IReadOnlyList<long> Steps(string run)
    {
        if (!Directory.Exists(run))
        {
            return [];
        }

        return [.. Directory.EnumerateDirectories(run, Prefix + "*")
            .Where(folder => File.Exists(Path.Combine(folder, TrainingStateFiles.Folder, TrainingStateFiles.Manifest)))
            .Select(folder => Path.GetFileName(folder)[Prefix.Length..])
            .Where(text => long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out _))
            .Select(text => long.Parse(text, CultureInfo.InvariantCulture)).Order()];
    }

    /// <summary>The newest checkpoint, or null.</summary>
    public static string? Newest(string run) => Steps(run) is [.., var last] ? CheckpointOf(run, last) : null;

    /// <summary>Deletes all checkpoints but the newest <paramref name="keep"/>.</summary>
    public static void Prune(string run, int keep)
    {
        foreach (long step in Steps(run).SkipLast(Math.Max(1, keep)))
        {
            Directory.Delete(CheckpointOf(run, step), recursive: true);
        }
    }

    /// <summary>Bytes of all files below a folder.</summary>
    public static long SizeOf(string folder) =>
        new DirectoryInfo(folder).EnumerateFiles("*", SearchOption.AllDirectories).Sum(file => file.Length);
}
