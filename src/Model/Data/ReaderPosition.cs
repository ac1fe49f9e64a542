namespace Krewe.Model.Data;

/// <summary>
/// How far a <see cref="TokenBatchReader"/> has come; part of a checkpoint. It counts windows, not batches, so a run
/// may resume with another batch size and still sees every window once an epoch.
/// </summary>
/// <param name="Epoch">Times that the whole data has been read.</param>
/// <param name="Window">Windows read of this epoch.</param>
/// <param name="Fingerprint">
/// Of the data and of what orders it (tokens, window length, seed): the position means nothing elsewhere.
/// </param>
public sealed record ReaderPosition(long Epoch, long Window, string Fingerprint);
