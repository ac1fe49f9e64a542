using Krewe.Model;
using Krewe.Model.Configuration;
using Krewe.Model.Data;
using Krewe.Model.Training;

namespace Krewe.Grains.Training;

/// <summary>Where the data stood when a run began.</summary>
/// <param name="Step">Steps committed by then.</param>
/// <param name="Epoch">Epoch.</param>
/// <param name="Window">Window of the epoch.</param>
internal readonly record struct DataOrigin(long Step, long Epoch, long Window);

/// <summary>The text of a run: tokenizer, training windows and the held-out part.</summary>
internal sealed class RunData
{
    private readonly int _microBatches;

    private RunData(TokenDataset dataset, TokenBatchReader reader, int microBatches)
    {
        Dataset = dataset;
        Reader = reader;
        _microBatches = microBatches;
    }

    /// <summary>The tokens.</summary>
    public TokenDataset Dataset { get; }

    /// <summary>The training windows; its position is saved with a checkpoint.</summary>
    public TokenBatchReader Reader { get; }

    /// <summary>Opens tokenizer and corpus and tokenizes; seconds of work, so not in a grain's turn.</summary>
    /// <exception cref="KreweException">Data or tokenizer cannot be used with the model.</exception>
    public static RunData Open(RunRequest request, ModelConfig model, TrainingConfig recipe)
    {
        Tokenizer tokenizer = request.Tokenizer is { } path ? Tokenizer.Load(path) : new ByteTokenizer();
        tokenizer.EnsureFits(model.VocabSize);
        TextCorpus corpus = request.Data is { } data ? TextCorpus.Open(data) : TextCorpus.OpenDefault();
        var dataset = new TokenDataset(corpus, tokenizer, new()
        {
            HeldOutFraction = request.HeldOutFraction,
            Seed = recipe.Seed,
            AddBos = tokenizer.BosId is not null,
        });
        var reader = new TokenBatchReader(dataset, recipe.BatchSize, recipe.SequenceLength, recipe.Seed);
        return new(dataset, reader, recipe.MicroBatches);
    }

    /// <summary>The global batch of a step, cut into micro-batches.</summary>
    /// <param name="step">Step number.</param>
    /// <param name="origin">Where the data stood at the step that it began with.</param>
    public IReadOnlyList<MicroBatch> At(long step, DataOrigin origin)
    {
        Reader.Seek(PositionAt(step, origin));
        return Cut(Reader.Next(), _microBatches);
    }

    /// <summary>Where the data stands before a step: every step takes one batch of windows.</summary>
    public ReaderPosition PositionAt(long step, DataOrigin origin)
    {
        long window = origin.Window + ((step - origin.Step) * Reader.Sequences);
        return new(
            origin.Epoch + (window / Reader.WindowsPerEpoch), window % Reader.WindowsPerEpoch, Reader.Position.Fingerprint);
    }

    /// <summary>
    /// Held-out windows in micro-batches of training size, at most <paramref name="windows"/> of them.
    /// </summary>
    public IEnumerable<MicroBatch> HeldOut(int windows)
    {
        int sequences = Math.Max(1, Reader.Sequences / _microBatches);
        return Dataset.HeldOutBatches(sequences, Reader.Length)
            .Take(Math.Max(1, windows / sequences)).SelectMany(batch => Cut(batch, 1));
    }

    private static IReadOnlyList<MicroBatch> Cut(TokenBatch batch, int parts)
    {
        int tokens = batch.Tokens.Length / parts;
        return [.. Enumerable.Range(0, parts).Select(part => MicroBatch.Equal(
            batch.Tokens[(part * tokens)..((part + 1) * tokens)],
            batch.Targets[(part * tokens)..((part + 1) * tokens)], batch.Length))];
    }
}
