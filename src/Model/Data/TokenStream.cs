using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace Krewe.Model.Data;

/// <summary>
/// Token ids end to end, two bytes each where the vocabulary allows, since a corpus is as long as memory is small.
/// Immutable once built.
/// </summary>
internal sealed class TokenStream
{
    private readonly ushort[]? _narrow;
    private readonly int[]? _wide;

    private TokenStream(ushort[]? narrow, int[]? wide) => (_narrow, _wide) = (narrow, wide);

    public int Count => _narrow?.Length ?? _wide!.Length;

    /// <summary>Copies tokens [start, start + destination.Length).</summary>
    public void CopyTo(int start, Span<int> destination)
    {
        if (_wide is not null)
        {
            _wide.AsSpan(start, destination.Length).CopyTo(destination);
            return;
        }

        ReadOnlySpan<ushort> source = _narrow.AsSpan(start, destination.Length);
        for (int i = 0; i < source.Length; i++)
        {
            destination[i] = source[i];
        }
    }

    /// <summary>SHA-256 of the ids, first 16 bytes in hexadecimal.</summary>
    public string Fingerprint()
    {
        ReadOnlySpan<byte> bytes = _narrow is null
            ? MemoryMarshal.AsBytes<int>(_wide)
            : MemoryMarshal.AsBytes<ushort>(_narrow);
        return Convert.ToHexStringLower(SHA256.HashData(bytes).AsSpan(0, 16));
    }

    /// <summary>Collects ids, then becomes a stream.</summary>
    /// <param name="vocabularySize">Decides the width.</param>
    /// <param name="capacity">Ids expected.</param>
    public sealed class Builder(int vocabularySize, int capacity)
    {
        private readonly List<ushort>? _narrow = vocabularySize <= ushort.MaxValue + 1 ? new(capacity) : null;
        private readonly List<int>? _wide = vocabularySize <= ushort.MaxValue + 1 ? null : new(capacity);

        public void Add(ReadOnlySpan<int> ids)
        {
            _wide?.AddRange(ids);
            if (_narrow is not null)
            {
                foreach (int id in ids)
                {
                    _narrow.Add(checked((ushort)id));
                }
            }
        }

        public TokenStream Build() => new(_narrow?.ToArray(), _wide?.ToArray());
    }
}
