using System.Text;

namespace Krewe.Model.Data.Tokenization;

/// <summary>
/// Byte-pair merges of one long word in O(n log n): a linked list of symbols and a heap of candidate pairs, lowest rank
/// first, leftmost first among equals. Microsoft.ML.Tokenizers gives the same ids but takes quadratic time (19 s for a
/// word of 400,000 letters), which a stranger's prompt must not be able to cost a server.
/// </summary>
internal sealed class LongWordMerger
{
    private readonly Dictionary<(int Left, int Right), (int Rank, int Id)> _merges;
    private readonly int[] _byteIds = new int[256];

    public LongWordMerger(IReadOnlyDictionary<string, int> vocabulary, IReadOnlyList<string> merges)
    {
        for (int b = 0; b < 256; b++)
        {
            _byteIds[b] = vocabulary.GetValueOrDefault(ByteAlphabet.CharacterOf((byte)b).ToString(), -1);
        }

        _merges = new(merges.Count);
        for (int rank = 0; rank < merges.Count; rank++)
        {
            string merge = merges[rank];
            int space = merge.IndexOf(' ', StringComparison.Ordinal);
            string left = merge[..space];
            string right = merge[(space + 1)..];
            _merges[(vocabulary[left], vocabulary[right])] = (rank, vocabulary[left + right]);
        }
    }

    /// <summary>
    /// The ids of one word. A byte that the vocabulary lacks is dropped, as by Hugging Face without an unk token.
    /// </summary>
    public List<int> Encode(ReadOnlySpan<char> word)
    {
        var ids = new List<int>(word.Length);
        var bytes = new byte[Encoding.UTF8.GetByteCount(word)];
        Encoding.UTF8.GetBytes(word, bytes);
        ids.AddRange(bytes.Select(b => _byteIds[b]).Where(id => id >= 0));

        // next and previous of symbol i; a merged-away symbol has id -1.
        int[] symbols = [.. ids];
        int[] next = [.. Enumerable.Range(1, symbols.Length)];
        int[] previous = [.. Enumerable.Range(-1, symbols.Length)];
        var candidates = new PriorityQueue<(int At, int Left, int Right), (int Rank, int At)>();
        void Offer(int at)
        {
            if (at >= 0 && next[at] < symbols.Length &&
                _merges.TryGetValue((symbols[at], symbols[next[at]]), out (int Rank, int Id) merge))
            {
                candidates.Enqueue((at, symbols[at], symbols[next[at]]), (merge.Rank, at));
            }
        }

        for (int i = 0; i < symbols.Length; i++)
        {
            Offer(i);
        }

        while (candidates.TryDequeue(out (int At, int Left, int Right) pair, out _))
        {
            int at = pair.At;
            int right = next[at];
            if (symbols[at] != pair.Left || right >= symbols.Length || symbols[right] != pair.Right)
            {
                continue; // One of the two has been merged since.
            }

            symbols[at] = _merges[(pair.Left, pair.Right)].Id;
            symbols[right] = -1;
            next[at] = next[right];
            if (next[at] < symbols.Length)
            {
                previous[next[at]] = at;
            }

            Offer(previous[at]);
            Offer(at);
        }

        ids.Clear();
        ids.AddRange(symbols.Where(id => id >= 0));
        return ids;
    }
}
