namespace Krewe.Model.Checkpoints;

/// <summary>
/// Names inside the <c>training</c> folder that a checkpoint of a run carries beside the released files.
/// </summary>
public static class TrainingStateFiles
{
    /// <summary>Folder below the checkpoint.</summary>
    public const string Folder = "training";

    /// <summary>MessagePack manifest below <see cref="Folder"/>.</summary>
    public const string Manifest = "manifest.msgpack";

    /// <summary>Float32 masters and moments below <see cref="Folder"/>.</summary>
    public const string Optimizer = "optimizer.safetensors";

    /// <summary>Name of a parameter's first moment in the optimizer file.</summary>
    public static string FirstMoment(string parameter) => "exp_avg." + parameter;

    /// <summary>Name of a parameter's second moment in the optimizer file.</summary>
    public static string SecondMoment(string parameter) => "exp_avg_sq." + parameter;
}
