using System.Text;

namespace Krewe.Model.Data;

/// <summary>
/// A corpus as tokens: every document ends with the end-of-text token, documents are shuffled once and packed end to
/// end, without a mask between them (DeepSeek-V3 report, 4.1). The held-out part shares no document with the training
/// part; of a corpus with fewer than <see cref="FewDocuments"/> documents the end of each is held out instead, since a
/// book is one document. The same corpus, tokenizer and options give the same tokens on every machine.
/// </summary>
public sealed class TokenDataset
{
    /// <summary>With fewer documents than this, the held-out part is cut from the end of each.</summary>
    public const int FewDocuments = 20;

    private readonly TokenStream _training;
    private readonly TokenStream _heldOut;

    /// <summary>Tokenizes the corpus; seconds for some ten megabytes.</summary>
    /// <exception cref="KreweException">
    /// The tokenizer has no end-of-text token, or an option is out of range.
    /// </exception>
    public TokenDataset(TextCorpus corpus, Tokenizer tokenizer, TokenDatasetOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(corpus);
        ArgumentNullException.ThrowIfNull(tokenizer);
        Options = options ?? new();
        Options.Validate();
        int eos = tokenizer.EosId ?? throw new KreweException(
            $"tokenizer '{tokenizer.Name}' has no end-of-text token; name one as eos_token in its " +
            "tokenizer_config.json");
        int? bos = Options.AddBos
            ? tokenizer.BosId ?? throw new KreweException($"tokenizer '{tokenizer.Name}' has no first token to add")
            : null;

        (Corpus, Tokenizer) = (corpus, tokenizer);
        var order = Enumerable.Range(0, corpus.Documents.Count).ToArray();
        new StableRandom(Options.Seed).Shuffle(order.AsSpan());
        var training = new TokenStream.Builder(tokenizer.VocabularySize, corpus.Documents.Sum(text => text.Length / 4));
        var heldOut = new TokenStream.Builder(tokenizer.VocabularySize, 0);
        bool cutEach = order.Length < FewDocuments;
        HeldOutDocuments = cutEach || Options.HeldOutFraction == 0
            ? 0
            : Math.Max(1, (int)Math.Round(order.Length * Options.HeldOutFraction));
        for (int i = 0; i < order.Length; i++)
        {
            string document = corpus.Documents[order[i]];
            int wholeCut = i < HeldOutDocuments ? 0 : document.Length;
            int cut = cutEach ? CutPoint(document, Options.HeldOutFraction) : wholeCut;
            string trained = document[..cut];
            string kept = document[cut..];
            if (trained.Length > 0)
            {
                Add(training, trained, bos, kept.Length > 0 ? null : eos);
            }

            if (kept.Length > 0)
            {
                HeldOutBytes += Encoding.UTF8.GetByteCount(kept);
                Add(heldOut, kept, trained.Length > 0 ? null : bos, eos);
            }
        }

        _training = training.Build();
        _heldOut = heldOut.Build();
        Fingerprint = _training.Fingerprint();

        void Add(TokenStream.Builder part, string text, int? first, int? last)
        {
            if (first is { } firstId)
            {
                part.Add([firstId]);
            }

            part.Add(tokenizer.Encode(text));
            if (last is { } lastId)
            {
                part.Add([lastId]);
            }
        }
    }

    /// <summary>The text.</summary>
    public TextCorpus Corpus { get; }

    /// <summary>What turned it into tokens.</summary>
    public Tokenizer Tokenizer { get; }

    /// <summary>How it was split.</summary>
    public TokenDatasetOptions Options { get; }

    /// <summary>Tokens to train on.</summary>
    public int TrainingTokens => _training.Count;

    /// <summary>Tokens held out.</summary>
    public int HeldOutTokens => _heldOut.Count;

    /// <summary>Whole documents held out; 0 where ends of documents were.</summary>
    public int HeldOutDocuments { get; }

    /// <summary>UTF-8 bytes of the held-out text, without the tokens added to it.</summary>
    public long HeldOutBytes { get; }

    /// <summary>
    /// Held-out bytes for each held-out token, NaN without a held-out part. A loss in nats per token divided by it is
    /// in nats per byte, which compares models of different tokenizers.
    /// </summary>
    public double BytesPerToken => HeldOutTokens == 0 ? double.NaN : (double)HeldOutBytes / HeldOutTokens;

    /// <summary>
    /// Hash of the training tokens in their order; a <see cref="ReaderPosition"/> is valid for one of them.
    /// </summary>
    public string Fingerprint { get; }

    /// <summary>
    /// Number of training windows of <paramref name="length"/> tokens, each with a target for its last token.
    /// </summary>
    public int CountWindows(int length) => Math.Max(0, (TrainingTokens - 1) / length);

    /// <summary>
    /// The held-out part in order, every token but the first predicted once. The last window and batch are filled up
    /// with end-of-text tokens whose targets are <see cref="TokenBatch.NoTarget"/>.
    /// </summary>
    /// <param name="sequences">Windows in a batch.</param>
    /// <param name="length">Tokens in a window.</param>
    public IEnumerable<TokenBatch> HeldOutBatches(int sequences, int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(sequences);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(length);
        return HeldOutBatchesCore(sequences, length);
    }

    private IEnumerable<TokenBatch> HeldOutBatchesCore(int sequences, int length)
    {
        for (int start = 0; start + 1 < HeldOutTokens;)
        {
            var batch = new TokenBatch(sequences, length);
            batch.Tokens.AsSpan().Fill(Tokenizer.EosId!.Value);
            batch.Targets.AsSpan().Fill(TokenBatch.NoTarget);
            for (int s = 0; s < sequences && start + 1 < HeldOutTokens; s++)
            {
                int count = Math.Min(length, HeldOutTokens - 1 - start);
                _heldOut.CopyTo(start, batch.Tokens.AsSpan(s * length, count));
                _heldOut.CopyTo(start + 1, batch.Targets.AsSpan(s * length, count));
                start += count;
            }

            yield return batch;
        }
    }

    /// <summary>
    /// Copies training window <paramref name="window"/>: tokens, and the tokens one further on as targets.
    /// </summary>
    internal void CopyWindow(int window, Span<int> tokens, Span<int> targets)
    {
        _training.CopyTo(window * tokens.Length, tokens);
        _training.CopyTo(window * tokens.Length + 1, targets);
    }

    /// <summary>Where a document's held-out end begins: after a line or blank, so that no word is torn.</summary>
    private static int CutPoint(string document, double fraction)
    {
        int cut = document.Length - (int)(document.Length * fraction);
        if (cut == document.Length)
        {
            return cut;
        }

        const int Near = 1000;
        int from = Math.Max(0, cut - Near);
        ReadOnlySpan<char> before = document.AsSpan(from, cut - from);
        int line = before.LastIndexOf('\n');
        int blank = line >= 0 ? line : before.LastIndexOf(' ');
        int end = blank >= 0 ? from + blank + 1 : cut;
        return char.IsLowSurrogate(document[end]) ? end - 1 : end;
    }
}
