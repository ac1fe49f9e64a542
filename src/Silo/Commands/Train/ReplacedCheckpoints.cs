namespace Krewe.Silo.Commands.Train;

/// <summary>
/// Old checkpoints of a run that is trained anew: set aside under a hidden name while the new run has none of its own,
/// deleted once it has, moved back where it never got that far.
/// </summary>
internal sealed class ReplacedCheckpoints : IDisposable
{
    private readonly List<(string From, string Aside)> _moved = [];

    /// <summary>Moves the folders aside.</summary>
    public static ReplacedCheckpoints SetAside(IReadOnlyList<string> folders)
    {
        var replaced = new ReplacedCheckpoints();
        foreach (string folder in folders)
        {
            string aside = Path.Combine(Path.GetDirectoryName(folder)!, $".replaced-{Path.GetFileName(folder)}");
            if (Directory.Exists(aside))
            {
                Directory.Delete(aside, recursive: true);
            }

            Directory.Move(folder, aside);
            replaced._moved.Add((folder, aside));
        }

        return replaced;
    }

    /// <summary>Deletes them: the new run has a checkpoint.</summary>
    public void Delete()
    {
        foreach ((_, string aside) in _moved)
        {
            Directory.Delete(aside, recursive: true);
        }

        _moved.Clear();
    }

    /// <summary>Moves back what was not deleted.</summary>
    public void Dispose()
    {
        foreach ((string from, string aside) in _moved)
        {
            if (!Directory.Exists(from))
            {
                Directory.Move(aside, from);
            }
        }

        _moved.Clear();
    }
}
