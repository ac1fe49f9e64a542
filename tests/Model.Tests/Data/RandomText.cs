using System.Text;
using Krewe.Model.Data;

namespace Krewe.Model.Tests.Data;

/// <summary>Well-formed text from all planes, with much white space and punctuation.</summary>
internal static class RandomText
{
    private static readonly (int From, int To)[] _ranges =
        [(' ', '~'), ('\t', '\r'), (0x80, 0x24F), (0x300, 0x36F), (0x2000, 0x206F), (0x3040, 0x30FF), (0x4E00, 0x9FFF),
         (0xAC00, 0xD7A3), (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF), (0x20000, 0x2A6DF), (0xE0100, 0xE01EF)];

    public static string Create(StableRandom random, int runes)
    {
        var text = new StringBuilder();
        for (int i = 0; i < runes; i++)
        {
            (int from, int to) = _ranges[random.NextInt(_ranges.Length)];
            text.Append(new Rune(from + random.NextInt(to - from + 1)).ToString());
        }

        return text.ToString();
    }
}
