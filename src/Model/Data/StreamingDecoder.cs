using System.Text;

namespace Krewe.Model.Data;

/// <summary>
/// Turns ids into text as they come. A character of several bytes may be spread over several tokens: its bytes are held
/// back until the last one is there, so every piece of text is whole and the pieces joined are the decoded text. Bytes
/// that can never become a character turn into U+FFFD. One decoder serves one sequence; not thread-safe.
/// </summary>
/// <param name="tokenizer">Whose ids are decoded.</param>
/// <param name="skipSpecialTokens">Leave control tokens out of the text.</param>
public sealed class StreamingDecoder(Tokenizer tokenizer, bool skipSpecialTokens = true)
{
    private readonly Decoder _decoder = Encoding.UTF8.GetDecoder();

    /// <summary>
    /// The text that became complete with <paramref name="id"/>; empty while a character is still open.
    /// </summary>
    public string Append(int id) =>
        skipSpecialTokens && tokenizer.IsSpecial(id) ? string.Empty : Decode(tokenizer.GetBytes(id), flush: false);

    /// <summary>
    /// Ends the sequence: U+FFFD if a character was left open, else nothing. The decoder may then be used anew.
    /// </summary>
    public string Flush() => Decode([], flush: true);

    private string Decode(ReadOnlySpan<byte> bytes, bool flush)
    {
        // Three more than the bytes: an abandoned prefix from earlier calls may come out as U+FFFD as well.
        Span<char> small = stackalloc char[128];
        Span<char> chars = bytes.Length + 3 <= small.Length ? small : new char[bytes.Length + 3];
        return new string(chars[.._decoder.GetChars(bytes, chars, flush)]);
    }
}
