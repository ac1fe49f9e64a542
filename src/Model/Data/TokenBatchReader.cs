namespace Krewe.Model.Data;

/// <summary>
/// Reads the training part of a <see cref="TokenDataset"/> without end, in batches of B windows of T tokens. Every
/// epoch visits each window once, in an order made from the seed and the epoch's number; a batch may span two epochs.
/// From a <see cref="Position"/> the same batches follow as did the first time, on any machine. Not thread-safe.
/// </summary>
public sealed class TokenBatchReader
{
    private readonly ulong _seed;
    private readonly int[] _order;
    private readonly string _fingerprint;
    private long _epoch;
    private int _window;

    /// <summary>A reader at the start of the data.</summary>
    /// <param name="dataset">The data, which several readers may share.</param>
    /// <param name="sequences">B, windows in a batch.</param>
    /// <param name="length">T, tokens in a window.</param>
    /// <param name="seed">Orders the windows.</param>
    /// <exception cref="KreweException">The data is too small for one window.</exception>
    public TokenBatchReader(TokenDataset dataset, int sequences, int length, ulong seed = 1)
    {
        ArgumentNullException.ThrowIfNull(dataset);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(sequences);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(length);
        (Dataset, Sequences, Length, _seed) = (dataset, sequences, length, seed);
        int windows = dataset.CountWindows(length);
        if (windows == 0)
        {
            throw new KreweException(
                $"'{dataset.Corpus.Name}' has {dataset.TrainingTokens} training tokens, too few for one sequence of " +
                $"{length}; give more text or a sequence length of at most {Math.Max(1, dataset.TrainingTokens - 1)}");
        }

        _order = new int[windows];
        _fingerprint = $"{dataset.Fingerprint}-{length}-{seed}";
        OrderWindows();
    }

    /// <summary>The data.</summary>
    public TokenDataset Dataset { get; }

    /// <summary>B, windows in a batch.</summary>
    public int Sequences { get; }

    /// <summary>T, tokens in a window.</summary>
    public int Length { get; }

    /// <summary>Windows in an epoch.</summary>
    public int WindowsPerEpoch => _order.Length;

    /// <summary>Tokens read since the start of the data, over all epochs.</summary>
    public long TokensRead => (_epoch * WindowsPerEpoch + _window) * Length;

    /// <summary>Where the next batch begins.</summary>
    public ReaderPosition Position => new(_epoch, _window, _fingerprint);

    /// <summary>The next batch; it is the caller's to keep.</summary>
    public TokenBatch Next()
    {
        var batch = new TokenBatch(Sequences, Length);
        for (int s = 0; s < Sequences; s++)
        {
            Span<int> tokens = batch.Tokens.AsSpan(s * Length, Length);
            Dataset.CopyWindow(_order[_window], tokens, batch.Targets.AsSpan(s * Length, Length));
            if (++_window == WindowsPerEpoch)
            {
                _window = 0;
                _epoch++;
                OrderWindows();
            }
        }

        return batch;
    }

    /// <summary>Goes to a saved position.</summary>
    /// <exception cref="KreweException">
    /// The position is of other data, another seed or another window length.
    /// </exception>
    public void Seek(ReaderPosition position)
    {
        ArgumentNullException.ThrowIfNull(position);
        if (position.Fingerprint != _fingerprint)
        {
            throw new KreweException(
                $"the saved data position is of other data than '{Dataset.Corpus.Name}' as it is read now (saved " +
                $"{position.Fingerprint}, now {_fingerprint}): resume with the same text, tokenizer, " +
                "sequence length and seed");
        }

        if (position.Epoch < 0 || position.Window < 0 || position.Window >= WindowsPerEpoch)
        {
            throw new KreweException(
                $"the saved data position (epoch {position.Epoch}, window {position.Window}) is outside the " +
                $"{WindowsPerEpoch} windows of an epoch");
        }

        bool reorder = position.Epoch != _epoch;
        (_epoch, _window) = (position.Epoch, (int)position.Window);
        if (reorder)
        {
            OrderWindows();
        }
    }

    private void OrderWindows()
    {
        for (int i = 0; i < _order.Length; i++)
        {
            _order[i] = i;
        }

        new StableRandom(_seed, (ulong)_epoch).Shuffle(_order.AsSpan());
    }
}
