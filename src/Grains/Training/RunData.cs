using Krewe.Model;
using Krewe.Model.Configuration;
using Krewe.Model.Data;
using Krewe.Model.Training;

namespace Krewe.Grains.Training;

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

    /// <summary>The next global batch, cut into micro-batches.</summary>
    public IReadOnlyList<MicroBatch> Next() => Cut(Reader.Next(), _microBatches);

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
