using System.Globalization;

namespace Krewe.Model.Data.Tokenization;

/// <summary>
/// .NET's Regex sees UTF-16 units, the tokenizers' regular expressions mean code points: to <c>\p{L}</c> a mathematical
/// letter is a letter, to Regex it is two surrogates that match nothing and may be torn apart. So the expressions run
/// over a folded copy in which every code point above U+FFFF is one character of the same general category, and the
/// cuts are carried back. That is exact for expressions that name categories and ranges below U+10000, as all known
/// ones do.
/// </summary>
internal static class PlaneFolding
{
    // One stand-in for each UnicodeCategory in its order: outside ASCII, CJK and kana, no case partner in ASCII.
    private const string StandIns =
        "\u0100\u0101\u01C5\u02B0\u05D0\u0300\u0903\u0488\u0660\u2160\u00B2" +  // Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No
        "\u2003\u2028\u2029\u0081\u200E\uFFFD\uE000" +                          // Zs Zl Zp Cc Cf (Cs) Co
        "\u203F\u2010\u2045\u2046\u00AB\u00BB\u2021" +                         // Pc Pd Ps Pe Pi Pf Po
        "\u00B1\u00A2\u00A8\u00A9\u0378";                                       // Sm Sc Sk So Cn

    /// <summary>The stand-in of a general category.</summary>
    public static char StandInOf(UnicodeCategory category) => StandIns[(int)category];

    /// <summary>
    /// Folds well-formed <paramref name="text"/> into <paramref name="folded"/> (as long as the text or shorter).
    /// <paramref name="offsets"/>, one longer than the text, gets the place in the text of every folded character and
    /// of the end.
    /// </summary>
    /// <returns>The number of folded characters.</returns>
    public static int Fold(ReadOnlySpan<char> text, Span<char> folded, Span<int> offsets)
    {
        int count = 0;
        for (int i = 0; i < text.Length; i++)
        {
            offsets[count] = i;
            if (char.IsHighSurrogate(text[i]))
            {
                int codePoint = char.ConvertToUtf32(text[i], text[++i]);
                folded[count++] = StandInOf(CharUnicodeInfo.GetUnicodeCategory(codePoint));
            }
            else
            {
                folded[count++] = text[i];
            }
        }

        offsets[count] = text.Length;
        return count;
    }
}
