namespace Krewe.Model.Checkpoints;

/// <summary>How a checkpoint differs from what its config asks for.</summary>
/// <param name="Missing">Tensors that are not there. MTP's copies of embedding and head may be absent.</param>
/// <param name="Faults">Wrong shapes, types and scales, one sentence each.</param>
/// <param name="Unexpected">Tensors that the config does not know; they are left alone.</param>
/// <param name="MtpAloneMissing">All missing tensors belong to MTP modules, which transformers drops on a save.</param>
public sealed record CheckpointFindings(
    IReadOnlyList<string> Missing, IReadOnlyList<string> Faults, IReadOnlyList<string> Unexpected, bool MtpAloneMissing)
{
    private const int Shown = 3;

    /// <summary>The faults on one line, the first few by name; null where there are none.</summary>
    public string? Describe()
    {
        List<string> parts = [];
        if (Missing.Count > 0)
        {
            string names = string.Join(", ", Missing.Take(Shown).Select(name => $"'{name}'"));
            string advice = MtpAloneMissing ? " (all of MTP: set num_nextn_predict_layers to 0 to do without)" : "";
            parts.Add($"{Missing.Count} tensors are missing: {names}{More(Missing.Count)}{advice}");
        }

        if (Faults.Count > 0)
        {
            string faults = string.Join("; ", Faults.Take(Shown));
            parts.Add($"{Faults.Count} tensors do not fit: {faults}{More(Faults.Count)}");
        }

        return parts.Count == 0 ? null : string.Join("; ", parts);
    }

    private static string More(int count) => count > Shown ? $" and {count - Shown} more" : "";
}
