using System.Globalization;
using System.Text.Json;
using Krewe.Model;

namespace Krewe.Grains.Training;

/// <summary>
/// What a run needs beside its tensors to go on after the silo that drove it died: a small file below the run's folder,
/// written with every committed step.
/// </summary>
/// <remarks>
/// Every activation of the run grain takes a new epoch and writes a file of its own. A silo that was declared dead and
/// wakes up writes to an old one, which nobody reads any more.
/// </remarks>
internal sealed record RunState
{
    private const string Folder = "run-state";

    /// <summary>Number of the activation that wrote this.</summary>
    public int Epoch { get; init; }

    /// <summary>Name of the run.</summary>
    public required string Name { get; init; }

    /// <summary>Name of the silo that drives the run; empty where it has let go.</summary>
    public string Driver { get; init; } = "";

    /// <summary>Process of that silo.</summary>
    public Guid DriverProcess { get; init; }

    /// <summary>
    /// Attempts of this activation are counted from here: above those of every earlier one, and above those of an earlier
    /// run of this name elsewhere, which silos may remember.
    /// </summary>
    public long FirstAttempt { get; init; }

    /// <summary>Newest checkpoint that the run has written; null before the first.</summary>
    public string? Checkpoint { get; init; }

    /// <summary>Training, Finished or Failed.</summary>
    public required string Phase { get; init; }

    /// <summary>The order; a resumed run's model and recipe are the checkpoint's.</summary>
    public required RunRequest Request { get; init; }

    /// <summary>Steps committed.</summary>
    public long Committed { get; init; }

    /// <summary>Step of the snapshot that is complete in the memory of <see cref="SnapshotSilos"/>; -1 for none.</summary>
    public int SnapshotStep { get; init; } = -1;

    /// <summary>The places at that snapshot, in ring order: see <see cref="PlacementPlan.KeeperOf"/>.</summary>
    public string[] SnapshotSilos { get; init; } = [];

    /// <summary>
    /// Step that every owner on <see cref="Silos"/> has, where the activation left in order; -1 while it drives the run, and
    /// where it died.
    /// </summary>
    public long HandedOver { get; init; } = -1;

    /// <summary>The silos of the plan at <see cref="HandedOver"/>.</summary>
    public string[] Silos { get; init; } = [];

    /// <summary>Silos that get nothing more, at <see cref="HandedOver"/>.</summary>
    public string[] Draining { get; init; } = [];

    /// <summary>Step that the run's first window belongs to.</summary>
    public long FirstStep { get; init; }

    /// <summary>Epoch of the data at <see cref="FirstStep"/>.</summary>
    public long FirstEpoch { get; init; }

    /// <summary>Window of the data at <see cref="FirstStep"/>.</summary>
    public long FirstWindow { get; init; }

    /// <summary>Checkpoint that the run began from; null for fresh parameters.</summary>
    public string? Origin { get; init; }

    /// <summary>The newest state of a run's folder, or null.</summary>
    public static RunState? Read(string run)
    {
        string folder = Path.Combine(run, Folder);
        if (!Directory.Exists(folder))
        {
            return null;
        }

        foreach (string path in Directory.EnumerateFiles(folder, "*.json").OrderByDescending(path => path, StringComparer.Ordinal))
        {
            try
            {
                return JsonSerializer.Deserialize<RunState>(File.ReadAllText(path));
            }
            catch (JsonException exception)
            {
                throw new KreweException($"{path} is damaged ({exception.Message}): resume the run from a checkpoint", exception);
            }
        }

        return null;
    }

    /// <summary>Takes the epoch: only one activation can, whatever the cluster thinks of who drives the run.</summary>
    /// <exception cref="SupersededException">Another one has.</exception>
    public void Claim(string run)
    {
        Directory.CreateDirectory(Path.Combine(run, Folder));
        try
        {
            using (new FileStream(Path.Combine(run, Folder, FormattableString.Invariant($"{Epoch:D8}.claim")), FileMode.CreateNew))
            {
                // Its being there is all.
            }
        }
        catch (IOException)
        {
            throw new SupersededException(Name);
        }

        Write(run);
    }

    /// <summary>Replaces the state of this epoch.</summary>
    public void Write(string run)
    {
        string folder = Path.Combine(run, Folder);
        string path = Path.Combine(folder, string.Create(CultureInfo.InvariantCulture, $"{Epoch:D8}.json"));
        File.WriteAllText(path + ".new", JsonSerializer.Serialize(this));
        File.Move(path + ".new", path, overwrite: true);
    }

    /// <summary>Removes what earlier epochs wrote, once this one has.</summary>
    public void Prune(string run)
    {
        foreach (string path in Directory.EnumerateFiles(Path.Combine(run, Folder), "*.json"))
        {
            if (int.TryParse(Path.GetFileNameWithoutExtension(path), CultureInfo.InvariantCulture, out int epoch) && epoch < Epoch)
            {
                File.Delete(path);
            }
        }
    }
}
