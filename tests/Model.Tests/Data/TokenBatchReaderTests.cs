using System.Text.Json;
using Krewe.Model.Data;
using Krewe.Model.Data.Corpora;
using Xunit;

namespace Krewe.Model.Tests.Data;

public sealed class TokenBatchReaderTests
{
    private const int Length = 32;
    private static readonly TokenDataset _dataset = new(GeneratedCorpus.Create(documents: 40), new ByteTokenizer());

    [Fact]
    public void Targets_are_the_tokens_that_follow()
    {
        var reader = new TokenBatchReader(_dataset, 3, Length);
        int[] ids = TokenDatasetTests.TrainingIds(_dataset);
        TokenBatch batch = reader.Next();
        Assert.Equal((3, Length, 3 * Length), (batch.Sequences, batch.Length, batch.TargetCount));
        for (int s = 0; s < 3; s++)
        {
            int[] tokens = batch.Tokens[(s * Length)..((s + 1) * Length)];
            Assert.Equal(tokens[1..], batch.Targets[(s * Length)..((s + 1) * Length - 1)]);
            int start = Enumerable.Range(0, reader.WindowsPerEpoch).Single(w => ids.AsSpan(w * Length, Length).SequenceEqual(tokens)) * Length;
            Assert.Equal(ids[start + Length], batch.Targets[(s + 1) * Length - 1]);
        }
    }

    [Fact]
    public void An_epoch_visits_every_window_once_in_a_new_order()
    {
        var reader = new TokenBatchReader(_dataset, 1, Length);
        string[] Epoch() => [.. Enumerable.Range(0, reader.WindowsPerEpoch).Select(_ => string.Join(' ', reader.Next().Tokens))];
        string[] first = Epoch();
        Assert.Equal(new ReaderPosition(1, 0, reader.Position.Fingerprint), reader.Position);
        string[] second = Epoch();
        Assert.NotEqual(first, second);
        Assert.Equal(first.Order(StringComparer.Ordinal), second.Order(StringComparer.Ordinal));
        Assert.Equal(2L * reader.WindowsPerEpoch * Length, reader.TokensRead);
    }

    [Fact]
    public void A_saved_position_resumes_exactly()
    {
        const int Batch = 5;
        var reader = new TokenBatchReader(_dataset, Batch, Length, seed: 9);
        int steps = reader.WindowsPerEpoch / Batch * 3;
        var positions = new List<string>();
        var batches = new List<TokenBatch>();
        for (int i = 0; i < steps; i++)
        {
            positions.Add(JsonSerializer.Serialize(reader.Position));
            batches.Add(reader.Next());
        }

        // Forwards and backwards, in one reader and in fresh ones, over the borders of epochs.
        var seeking = new TokenBatchReader(_dataset, Batch, Length, seed: 9);
        for (int i = steps - 1; i >= 0; i -= 7)
        {
            seeking.Seek(JsonSerializer.Deserialize<ReaderPosition>(positions[i])!);
            Assert.Equal((long)i * Batch * Length, seeking.TokensRead);
            for (int j = i; j < Math.Min(i + 3, steps); j++)
            {
                TokenBatch batch = seeking.Next();
                Assert.Equal(batches[j].Tokens, batch.Tokens);
                Assert.Equal(batches[j].Targets, batch.Targets);
            }
        }

        Assert.True(seeking.Position.Epoch >= 0 && reader.Position.Epoch >= 2);
    }

    [Fact]
    public void Other_batch_sizes_read_the_same_windows()
    {
        var ones = new TokenBatchReader(_dataset, 1, Length);
        var fours = new TokenBatchReader(_dataset, 4, Length);
        int[] expected = fours.Next().Tokens;
        Assert.Equal(expected, Enumerable.Range(0, 4).SelectMany(_ => ones.Next().Tokens));
        Assert.Equal(fours.Position, ones.Position);
    }

    [Fact]
    public void A_position_of_other_data_is_refused()
    {
        var reader = new TokenBatchReader(_dataset, 1, Length);
        ReaderPosition position = reader.Position;
        var other = new TokenDataset(GeneratedCorpus.Create(documents: 41), new ByteTokenizer());
        Assert.Throws<KreweException>(() => new TokenBatchReader(other, 1, Length).Seek(position));
        Assert.Throws<KreweException>(() => new TokenBatchReader(_dataset, 1, Length + 1).Seek(position));
        Assert.Throws<KreweException>(() => new TokenBatchReader(_dataset, 1, Length, seed: 2).Seek(position));
        Assert.Throws<KreweException>(() => reader.Seek(position with { Window = reader.WindowsPerEpoch }));
        reader.Seek(position with { Epoch = 3 });
    }
}
