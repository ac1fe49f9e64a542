using MessagePack;

namespace Krewe.Model.Checkpoints;

/// <summary>What a run needs beside its tensors to go on bit for bit.</summary>
[MessagePackObject]
public sealed record TrainingManifest
{
    /// <summary>Version of this format.</summary>
    [Key("format")] public int Format { get; init; } = 1;

    /// <summary>Steps committed.</summary>
    [Key("step")] public long Step { get; init; }

    /// <summary>The recipe, as JSON.</summary>
    [Key("training")] public string TrainingJson { get; init; } = "";

    /// <summary>Fingerprint of the training tokens, so that a resumed run cannot read others.</summary>
    [Key("fingerprint")] public string Fingerprint { get; init; } = "";

    /// <summary>Epoch of the reader's next window.</summary>
    [Key("epoch")] public long Epoch { get; init; }

    /// <summary>The reader's next window within the epoch.</summary>
    [Key("window")] public long Window { get; init; }

    /// <summary>Reads the manifest of a checkpoint folder.</summary>
    /// <exception cref="KreweException">It is missing or damaged.</exception>
    public static TrainingManifest Read(string checkpoint)
    {
        string path = Path.Combine(checkpoint, TrainingStateFiles.Folder, TrainingStateFiles.Manifest);
        try
        {
            TrainingManifest manifest = MessagePackSerializer.Deserialize<TrainingManifest>(File.ReadAllBytes(path));
            return manifest.Format == 1
                ? manifest
                : throw new KreweException($"{path} has format {manifest.Format}, this version reads 1: use a newer krewe");
        }
        catch (Exception exception) when (exception is IOException or MessagePackSerializationException)
        {
            throw new KreweException(
                $"{path} cannot be read ({exception.Message}): resume from another checkpoint, or train anew", exception);
        }
    }

    /// <summary>Writes the manifest below a checkpoint folder.</summary>
    public void Write(string checkpoint)
    {
        string folder = Path.Combine(checkpoint, TrainingStateFiles.Folder);
        Directory.CreateDirectory(folder);
        File.WriteAllBytes(
            Path.Combine(folder, TrainingStateFiles.Manifest), MessagePackSerializer.Serialize(this));
    }
}
