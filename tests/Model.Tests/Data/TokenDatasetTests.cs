using Krewe.Model.Data;
using Krewe.Model.Data.Corpora;
using Xunit;

namespace Krewe.Model.Tests.Data;

public sealed class TokenDatasetTests
{
    private static readonly ByteTokenizer _bytes = new();

    private static TextCorpus Numbered(int documents) =>
        new("numbered", Enumerable.Range(0, documents).Select(i => $"document {i:D4}"));

    [Fact]
    public void Parts_share_no_document_and_lose_none()
    {
        TextCorpus corpus = Numbered(500);
        var dataset = new TokenDataset(corpus, _bytes, new() { HeldOutFraction = 0.1 });
        string[] training = Documents(TrainingIds(dataset));
        string[] heldOut = Documents(HeldOutIds(dataset));
        Assert.Equal(50, dataset.HeldOutDocuments);
        Assert.Equal(50, heldOut.Length);
        Assert.Empty(training.Intersect(heldOut));
        Assert.Equal(corpus.Documents, training.Concat(heldOut).Order(StringComparer.Ordinal));
        Assert.NotEqual(training.Order(StringComparer.Ordinal), training);
    }

    [Fact]
    public void The_same_seed_gives_the_same_tokens()
    {
        TextCorpus corpus = Numbered(100);
        var first = new TokenDataset(corpus, _bytes, new() { Seed = 5 });
        var second = new TokenDataset(corpus, _bytes, new() { Seed = 5 });
        var other = new TokenDataset(corpus, _bytes, new() { Seed = 6 });
        Assert.Equal(first.Fingerprint, second.Fingerprint);
        Assert.NotEqual(first.Fingerprint, other.Fingerprint);
        Assert.Equal(HeldOutIds(first), HeldOutIds(second));
    }

    [Fact]
    public void A_book_is_held_out_at_its_end()
    {
        string book = string.Concat(Enumerable.Range(0, 1000).Select(i => $"line {i}\n"));
        var dataset = new TokenDataset(new("book", [book]), _bytes, new() { HeldOutFraction = 0.1 });
        string training = _bytes.Decode(TrainingIds(dataset));
        string heldOut = _bytes.Decode(HeldOutIds(dataset), skipSpecialTokens: true);
        Assert.Equal(book, training + heldOut);
        Assert.EndsWith("\n", training);
        Assert.InRange(heldOut.Length, book.Length / 10, book.Length / 10 + 10);
        Assert.Equal(0, dataset.HeldOutDocuments);
        Assert.Equal(heldOut.Length, dataset.HeldOutBytes);
        Assert.Equal((double)heldOut.Length / (heldOut.Length + 1), dataset.BytesPerToken);
    }

    [Fact]
    public void Held_out_batches_predict_every_token_but_the_first_once()
    {
        var dataset = new TokenDataset(Numbered(100), _bytes, new() { HeldOutFraction = 0.03 });
        Assert.Equal(3 * 14, dataset.HeldOutTokens);
        TokenBatch[] batches = [.. dataset.HeldOutBatches(sequences: 2, length: 16)];
        Assert.Equal(2, batches.Length);
        Assert.Equal([32, 9], batches.Select(batch => batch.TargetCount));
        Assert.Equal(257, batches[1].Tokens[^1]);
        Assert.Equal(TokenBatch.NoTarget, batches[1].Targets[^1]);
    }

    [Fact]
    public void Without_a_held_out_part_all_is_trained_on()
    {
        var dataset = new TokenDataset(Numbered(100), _bytes, new() { HeldOutFraction = 0 });
        Assert.Equal(1400, dataset.TrainingTokens);
        Assert.Empty(dataset.HeldOutBatches(1, 8));
        Assert.True(double.IsNaN(dataset.BytesPerToken));
        Assert.Equal(100 * 15, new TokenDataset(Numbered(100), _bytes, new() { HeldOutFraction = 0, AddBos = true }).TrainingTokens);
    }

    [Fact]
    public void Faults_say_what_to_do()
    {
        var dataset = new TokenDataset(new("small", ["abc"]), _bytes);
        string message = Assert.Throws<KreweException>(() => new TokenBatchReader(dataset, 1, 64)).Message;
        Assert.Contains("4 training tokens", message);
        Assert.Contains("at most 3", message);
        Assert.Throws<KreweException>(() => new TokenDataset(new("small", ["abc"]), _bytes, new() { HeldOutFraction = 0.9 }));
        Assert.Equal(1, new TokenBatchReader(dataset, 1, 3).WindowsPerEpoch);
    }

    [Fact]
    public void Large_vocabularies_are_stored_whole()
    {
        Tokenizer tokenizer = SharedTokenizers.DeepSeekV3;
        TextCorpus corpus = GeneratedCorpus.Create(documents: 3);
        var dataset = new TokenDataset(new("x", corpus.Documents.Append("<｜Assistant｜>")), tokenizer, new() { HeldOutFraction = 0 });
        Assert.Contains(128804, TrainingIds(dataset));
    }

    internal static int[] TrainingIds(TokenDataset dataset)
    {
        // Every window of one token: the tokens in order, then the target of the last.
        var ids = new int[dataset.TrainingTokens];
        for (int i = 0; i + 1 < ids.Length; i++)
        {
            dataset.CopyWindow(i, ids.AsSpan(i, 1), ids.AsSpan(i + 1, 1));
        }

        return ids;
    }

    private static int[] HeldOutIds(TokenDataset dataset)
    {
        TokenBatch[] batches = [.. dataset.HeldOutBatches(1, 1)];
        return [.. batches.Select(batch => batch.Tokens[0]), batches[^1].Targets[0]];
    }

    private static string[] Documents(int[] ids) =>
        _bytes.Decode(ids).Split("<｜end▁of▁sentence｜>", StringSplitOptions.RemoveEmptyEntries);
}
