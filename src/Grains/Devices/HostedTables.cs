using Krewe.Model.Layers;

namespace Krewe.Grains.Devices;

/// <summary>
/// Embedding and output head of a model, where they live on this device: once, whichever copies of the first and last
/// stage use them (docs/decisions/0009).
/// </summary>
internal sealed class HostedTables : IDisposable
{
    /// <summary>The embedding, or null where it is elsewhere.</summary>
    public TokenEmbedding? Embedding { get; private set; }

    /// <summary>The head, or null where it is elsewhere.</summary>
    public OutputHead? Head { get; private set; }

    /// <summary>What a step changes of them.</summary>
    public IEnumerable<OwnerState> Owners =>
        new[] { Embedding is null ? null : OwnerState.Of(Embedding), Head is null ? null : OwnerState.Of(Head) }
            .OfType<OwnerState>();

    /// <summary>Keeps the embedding.</summary>
    public void Keep(TokenEmbedding embedding) => Embedding = embedding;

    /// <summary>Keeps the head.</summary>
    public void Keep(OutputHead head) => Head = head;

    /// <summary>Frees the embedding.</summary>
    public void RemoveEmbedding()
    {
        Embedding?.Dispose();
        Embedding = null;
    }

    /// <summary>Frees the head.</summary>
    public void RemoveHead()
    {
        Head?.Dispose();
        Head = null;
    }

    /// <summary>Frees what a plan puts elsewhere.</summary>
    /// <param name="embedding">True where the embedding stays.</param>
    /// <param name="head">True where the head stays.</param>
    public void Trim(bool embedding, bool head)
    {
        if (!embedding)
        {
            RemoveEmbedding();
        }

        if (!head)
        {
            RemoveHead();
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Trim(embedding: false, head: false);
}
