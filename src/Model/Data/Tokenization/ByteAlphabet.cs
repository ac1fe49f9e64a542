using System.Text;

namespace Krewe.Model.Data.Tokenization;

/// <summary>
/// GPT-2's alphabet: one printable character for each byte, so that a vocabulary of byte strings can be written as
/// text. Printable Latin-1 stands for itself, the other 68 bytes for U+0100 upwards in byte order.
/// </summary>
internal static class ByteAlphabet
{
    private static readonly char[] _characters = CreateCharacters();
    private static readonly short[] _bytes = CreateBytes();

    /// <summary>The character of a byte.</summary>
    public static char CharacterOf(byte value) => _characters[value];

    /// <summary>
    /// The bytes of a token's written form. One character outside the alphabet makes the whole token literal text, as
    /// in Hugging Face's ByteLevel decoder; added tokens are of that kind.
    /// </summary>
    public static byte[] GetBytes(string token)
    {
        var bytes = new byte[token.Length];
        for (int i = 0; i < token.Length; i++)
        {
            if (token[i] >= _bytes.Length || _bytes[token[i]] < 0)
            {
                return Encoding.UTF8.GetBytes(token);
            }

            bytes[i] = (byte)_bytes[token[i]];
        }

        return bytes;
    }

    private static char[] CreateCharacters()
    {
        var characters = new char[256];
        int next = 256;
        for (int b = 0; b < 256; b++)
        {
            bool printable = b is (>= '!' and <= '~') or (>= 0xA1 and <= 0xAC) or (>= 0xAE and <= 0xFF);
            characters[b] = (char)(printable ? b : next++);
        }

        return characters;
    }

    private static short[] CreateBytes()
    {
        var bytes = new short[_characters.Max() + 1];
        Array.Fill(bytes, (short)-1);
        for (int b = 0; b < 256; b++)
        {
            bytes[_characters[b]] = (short)b;
        }

        return bytes;
    }
}
