namespace Krewe.Model.Data;

/// <summary>How a corpus becomes training and held-out tokens.</summary>
public sealed record TokenDatasetOptions
{
    /// <summary>
    /// Share of the documents that is never trained on, in [0, 0.5]. Default 0.02; 0 for no held-out part.
    /// </summary>
    public double HeldOutFraction { get; init; } = 0.02;

    /// <summary>Seed of the documents' order and of the choice of held-out ones. Default 1.</summary>
    public ulong Seed { get; init; } = 1;

    /// <summary>
    /// Put the tokenizer's first token before every document, as DeepSeek's tokenizer_config.json asks at inference
    /// (<c>add_bos_token</c>). Default false: the last token of the document before already says that a new one begins,
    /// and a prompt may start with that. A model trained without should not be prompted with a first token.
    /// </summary>
    public bool AddBos { get; init; }

    internal void Validate()
    {
        if (HeldOutFraction is not (>= 0 and <= 0.5))
        {
            throw new KreweException($"the held-out fraction is {HeldOutFraction}; it must be between 0 and 0.5");
        }
    }
}
