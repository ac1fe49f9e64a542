using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Model.Generation;

/// <summary>
/// The cache of multi-head latent attention for a batch of sequences and a run of layers: per token and layer the
/// normalised latent and the rotated shared key, nothing per head (report 2.1.1). Tokens lie in pages of
/// <see cref="LatentPages.PageTokens"/>, which sequences take as they grow and give back when they end.
/// </summary>
public sealed class LatentKvCache : IDisposable
{
    private readonly Arena _arena;
    private readonly Tensor[] _layers;
    private readonly Sequence[] _sequences;
    private readonly Stack<int> _free;

    /// <summary>Allocates room for every sequence at its longest.</summary>
    /// <param name="device">Where the cache lives.</param>
    /// <param name="layers">Number of layers.</param>
    /// <param name="width"><c>kv_lora_rank + qk_rope_head_dim</c>.</param>
    /// <param name="dtype">Float32 or BFloat16.</param>
    /// <param name="capacities">Largest number of tokens of each sequence.</param>
    public LatentKvCache(IDevice device, int layers, int width, DType dtype, IReadOnlyList<int> capacities)
    {
        _sequences = [.. capacities.Select(capacity => new Sequence(capacity))];
        int pages = Math.Max(1, _sequences.Sum(sequence => PagesOf(sequence.Capacity)));
        _free = new(Enumerable.Range(0, pages).Reverse());
        SparePage = pages;
        MostPages = Math.Max(1, _sequences.Max(sequence => PagesOf(sequence.Capacity)));
        _arena = device.CreateArena("latent cache");
        _layers = new Tensor[layers];
        for (int layer = 0; layer < layers; layer++)
        {
            _layers[layer] = _arena.Allocate(checked((pages + 1) * LatentPages.PageTokens), width, dtype);
        }
    }

    /// <summary>Number of sequences.</summary>
    public int Sequences => _sequences.Length;

    /// <summary>Pages of the longest sequence: columns of a table that holds any.</summary>
    public int MostPages { get; }

    /// <summary>Pages that no sequence has.</summary>
    public int FreePages => _free.Count;

    /// <summary>A page that never becomes a sequence's: rows of a step that are nobody's write there.</summary>
    public int SparePage { get; }

    /// <summary>[(pages + 1) * PageTokens, latent + rope] of one layer, by index within this cache.</summary>
    public Tensor this[int layer] => _layers[layer];

    /// <summary>Tokens of a sequence that the cache holds: the position of the next one.</summary>
    public int LengthOf(int sequence) => _sequences[sequence].Length;

    /// <summary>Takes the pages that the next tokens of a sequence need.</summary>
    /// <exception cref="InvalidOperationException">They are more than it was opened for.</exception>
    public void Reserve(int sequence, int tokens)
    {
        Sequence held = _sequences[sequence];
        if (held.Length + tokens > held.Capacity)
        {
            throw new InvalidOperationException(
                $"the cache holds {held.Length} of {held.Capacity} tokens of sequence {sequence}; {tokens} more do not fit");
        }

        while (held.Pages.Count < PagesOf(held.Length + tokens))
        {
            held.Pages.Add(_free.Pop());
        }
    }

    /// <summary>Notes that <paramref name="tokens"/> more rows were written in every layer.</summary>
    public void Advance(int sequence, int tokens) => _sequences[sequence].Length += tokens;

    /// <summary>Gives the pages of a sequence that has ended to others.</summary>
    public void End(int sequence)
    {
        Sequence held = _sequences[sequence];
        for (int i = held.Pages.Count - 1; i >= 0; i--)
        {
            _free.Push(held.Pages[i]);
        }

        held.Pages.Clear();
        held.Length = 0;
    }

    /// <summary>Writes the pages of sequences, a row of <see cref="MostPages"/> columns each, 0 behind the last.</summary>
    public void FillTable(ReadOnlySpan<int> sequences, Span<int> table)
    {
        table.Clear();
        for (int i = 0; i < sequences.Length; i++)
        {
            _sequences[sequences[i]].Pages.CopyTo(table[(i * MostPages)..]);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _arena.Dispose();

    private static int PagesOf(int tokens) => (tokens + LatentPages.PageTokens - 1) / LatentPages.PageTokens;

    private sealed class Sequence(int capacity)
    {
        public int Capacity { get; } = capacity;

        public int Length { get; set; }

        public List<int> Pages { get; } = [];
    }
}
