using System.Text;

namespace Krewe.Model.Data.Corpora;

/// <summary>
/// Small invented reports about machines and people: plain English grammar, a few hundred words, the same for the same
/// seed on every machine. It stands in where no other text is at hand, and serves tests.
/// </summary>
public static class GeneratedCorpus
{
    private static readonly string[] _subjects =
        ["the engineer", "a small model", "the river pilot", "every expert", "the old drummer",
         "the night watch", "a young clerk", "the parade", "the router", "the harbour master",
         "her brother", "the second float", "the trumpet player", "a quiet crowd"];
    private static readonly string[] _verbs =
        ["carries", "follows", "counts", "repairs", "remembers", "paints", "measures", "finds", "leaves",
         "opens", "watches"];
    private static readonly string[] _adjectives =
        ["green", "golden", "heavy", "early", "narrow", "wooden", "bright", "broken", "simple", "purple",
         "long", "silent"];
    private static readonly string[] _objects =
        ["lantern", "bridge", "letter", "wheel", "window", "engine", "mask", "ledger", "banner", "road",
         "signal", "garden"];
    private static readonly string[] _endings =
        ["before the rain comes", "on the first day of the week", "when nobody is looking",
         "at the corner of the market", "because the work is not finished", "until the lights go out",
         "as it did last year", "without a word"];

    /// <summary>Makes the corpus.</summary>
    /// <param name="documents">Number of documents; each has 3 to 8 sentences, some 350 characters.</param>
    /// <param name="seed">Equal seeds give equal text.</param>
    /// <param name="notice">Passed on as <see cref="TextCorpus.Notice"/>.</param>
    public static TextCorpus Create(int documents = 4000, ulong seed = 1, string? notice = null)
    {
        var random = new StableRandom(seed);
        return new("generated text", Enumerable.Range(0, documents).Select(_ => CreateDocument(random)), notice);
    }

    private static string CreateDocument(StableRandom random)
    {
        var text = new StringBuilder();
        for (int sentences = 3 + random.NextInt(6); sentences > 0; sentences--)
        {
            int start = text.Length;
            text.Append(Pick(random, _subjects)).Append(' ').Append(Pick(random, _verbs)).Append(" the ");
            if (random.NextInt(3) > 0)
            {
                text.Append(Pick(random, _adjectives)).Append(' ');
            }

            text.Append(Pick(random, _objects));
            text.Append(random.NextInt(2) == 0 ? "" : $" and the {Pick(random, _objects)}");
            text.Append(random.NextInt(2) == 0 ? "" : $" {Pick(random, _endings)}").Append(sentences > 1 ? ". " : ".");
            text[start] = char.ToUpperInvariant(text[start]);
        }

        return text.ToString();
    }

    private static string Pick(StableRandom random, string[] words) => words[random.NextInt(words.Length)];
}
