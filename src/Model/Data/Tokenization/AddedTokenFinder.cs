using System.Buffers;

namespace Krewe.Model.Data.Tokenization;

/// <summary>Finds the leftmost added token in a text, and of those that start there the longest.</summary>
internal sealed class AddedTokenFinder
{
    private readonly Dictionary<string, AddedToken>.AlternateLookup<ReadOnlySpan<char>> _byContent;
    private readonly SearchValues<string> _anyContent;
    private readonly int[] _lengths;

    public AddedTokenFinder(IEnumerable<AddedToken> tokens)
    {
        var byContent = new Dictionary<string, AddedToken>(StringComparer.Ordinal);
        foreach (AddedToken token in tokens.Where(token => token.Content.Length > 0))
        {
            byContent.TryAdd(token.Content, token);
        }

        _byContent = byContent.GetAlternateLookup<ReadOnlySpan<char>>();
        _anyContent = SearchValues.Create([.. byContent.Keys], StringComparison.Ordinal);
        _lengths = [.. byContent.Keys.Select(content => content.Length).Distinct().OrderDescending()];
    }

    public bool TryFind(ReadOnlySpan<char> text, out int start, out AddedToken? token)
    {
        token = null;
        start = _lengths.Length == 0 ? -1 : text.IndexOfAny(_anyContent);
        if (start < 0)
        {
            return false;
        }

        ReadOnlySpan<char> rest = text[start..];
        foreach (int length in _lengths)
        {
            if (length <= rest.Length && _byContent.TryGetValue(rest[..length], out token))
            {
                return true;
            }
        }

        return false;
    }
}
