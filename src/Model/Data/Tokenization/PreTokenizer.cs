using System.Text.RegularExpressions;

namespace Krewe.Model.Data.Tokenization;

/// <summary>
/// Cuts a text into the words that merges never cross: each expression in turn cuts the pieces that the ones before it
/// left, and keeps both matches and what lies between them ("Isolated"). An expression sees one piece at a time, so a
/// look-ahead stops at the piece's end.
/// </summary>
/// <param name="expressions">The cutting expressions in order.</param>
internal sealed class PreTokenizer(IReadOnlyList<Regex> expressions)
{
    /// <summary>GPT-2's expression, which a ByteLevel pre-tokenizer with <c>use_regex</c> applies.</summary>
    public const string ByteLevelPattern =
        @"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

    /// <summary>
    /// The end of every word, in order; the words cover <paramref name="text"/>, which must be well-formed.
    /// </summary>
    public List<int> GetWordEnds(ReadOnlySpan<char> text)
    {
        if (!text.ContainsAnyInRange('\uD800', '\uDFFF'))
        {
            return Cut(text);
        }

        var folded = new char[text.Length];
        var offsets = new int[text.Length + 1];
        List<int> ends = Cut(folded.AsSpan(0, PlaneFolding.Fold(text, folded, offsets)));
        for (int i = 0; i < ends.Count; i++)
        {
            ends[i] = offsets[ends[i]];
        }

        return ends;
    }

    private List<int> Cut(ReadOnlySpan<char> text)
    {
        List<int> ends = text.Length == 0 ? [] : [text.Length];
        foreach (Regex expression in expressions)
        {
            var next = new List<int>(ends.Count * 2);
            int start = 0;
            foreach (int end in ends)
            {
                int done = start;
                foreach (ValueMatch match in expression.EnumerateMatches(text[start..end]))
                {
                    int from = start + match.Index;
                    if (match.Length > 0)
                    {
                        AddEnd(next, from, ref done);
                        AddEnd(next, from + match.Length, ref done);
                    }
                }

                AddEnd(next, end, ref done);
                start = end;
            }

            ends = next;
        }

        return ends;
    }

    private static void AddEnd(List<int> ends, int end, ref int done)
    {
        if (end > done)
        {
            ends.Add(end);
            done = end;
        }
    }
}
