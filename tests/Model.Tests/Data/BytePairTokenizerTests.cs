using System.Text.Json;
using Krewe.Model.Data;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Data;

public sealed class BytePairTokenizerTests
{
    [Fact]
    public void DeepSeekV3_equals_hugging_face_id_for_id()
    {
        Tokenizer tokenizer = SharedTokenizers.DeepSeekV3;
        string golden = File.ReadAllText(Path.Combine(TestData.GoldenFolder, "tokenizer_deepseek_v3.json"));
        using JsonDocument cases = JsonDocument.Parse(golden);
        int count = 0;
        foreach (JsonElement entry in cases.RootElement.EnumerateArray())
        {
            string text = entry.GetProperty("text").GetString()!;
            int[] expected = [.. entry.GetProperty("ids").EnumerateArray().Select(id => id.GetInt32())];
            Assert.True(expected.SequenceEqual(tokenizer.Encode(text)),
                $"case {count}, '{text}': expected {string.Join(' ', expected)}, got {string.Join(' ', tokenizer.Encode(text))}");
            Assert.Equal(entry.GetProperty("decoded").GetString(), tokenizer.Decode(expected));
            count++;
        }

        Assert.True(count > 10);
    }

    [Fact]
    public void DeepSeekV3_knows_its_ends_and_size()
    {
        Tokenizer tokenizer = SharedTokenizers.DeepSeekV3;
        Assert.Equal(0, tokenizer.BosId);
        Assert.Equal(1, tokenizer.EosId);
        Assert.Equal(128815, tokenizer.VocabularySize);
        Assert.Equal("deepseek-v3", tokenizer.Name);
        tokenizer.EnsureFits(129280);
        Assert.Contains("128814", Assert.Throws<KreweException>(() => tokenizer.EnsureFits(8192)).Message);
    }

    [Fact]
    public void Docs26M_reproduces_the_reference_counts()
    {
        Tokenizer tokenizer = SharedTokenizers.Docs26M;
        string folder = SharedTokenizers.Folder("checkpoints/docs-26m");
        string[] texts = JsonSerializer.Deserialize<string[]>(File.ReadAllText(Path.Combine(folder, "held_out.json")))!;
        Assert.Equal(18886, texts.Sum(text => Math.Min(512, tokenizer.Encode(text).Length + 2) - 1));

        using JsonDocument reference = JsonDocument.Parse(File.ReadAllText(Path.Combine(folder, "reference.json")));
        foreach (JsonElement greedy in reference.RootElement.GetProperty("greedy").EnumerateArray())
        {
            int[] ids = [tokenizer.BosId!.Value, .. tokenizer.Encode(greedy.GetProperty("prompt").GetString()!)];
            Assert.Equal(greedy.GetProperty("prompt_ids").EnumerateArray().Select(id => id.GetInt32()), ids);
            int[] continuation = [.. greedy.GetProperty("greedy_ids").EnumerateArray().Select(id => id.GetInt32())];
            Assert.Equal(greedy.GetProperty("text").GetString(), tokenizer.Decode(continuation));
        }
    }

    [Fact]
    public void Letters_beyond_the_basic_plane_are_letters()
    {
        // U+1D49C MATHEMATICAL SCRIPT CAPITAL A is \p{Lu}: "ab" before it and after it form one word with it, and the
        // pair is never torn. One word means that the ids are the merges of the whole, whatever the context.
        Tokenizer tokenizer = SharedTokenizers.DeepSeekV3;
        string word = "ab\U0001D49Ccd";
        int[] ids = tokenizer.Encode(word + "\U0001F642\U0001F642!");
        var whole = ((BytePairTokenizer)tokenizer).EncodeLongWord(word);
        var symbols = ((BytePairTokenizer)tokenizer).EncodeLongWord("\U0001F642\U0001F642!");
        Assert.Equal([.. whole, .. symbols], ids);
    }

    [Fact]
    public void Long_words_get_the_ids_of_short_ones()
    {
        var tokenizer = (BytePairTokenizer)SharedTokenizers.DeepSeekV3;
        var random = new StableRandom(7);
        for (int length = 1; length <= 256; length++)
        {
            // Few letters make many overlapping merges of equal rank.
            string word = new([.. Enumerable.Range(0, length).Select(_ => "aetinö"[random.NextInt(length % 5 + 2)])]);
            Assert.Equal(tokenizer.Encode(word), tokenizer.EncodeLongWord(word));
        }

        int[] many = tokenizer.Encode(new string('a', 100_000));
        Assert.Equal(new string('a', 100_000), tokenizer.Decode(many));
    }

    [Fact]
    public void Any_text_comes_back()
    {
        Tokenizer tokenizer = SharedTokenizers.DeepSeekV3;
        var random = new StableRandom(3);
        for (int i = 0; i < 300; i++)
        {
            string text = RandomText.Create(random, 40);
            Assert.Equal(text, tokenizer.Decode(tokenizer.Encode(text)));
        }

        Assert.Equal("a\uFFFDb", tokenizer.Decode(tokenizer.Encode("a\uD800b")));
        Assert.Empty(tokenizer.Encode(""));
    }

    [Fact]
    public void Special_tokens_are_recognised_and_can_be_skipped()
    {
        Tokenizer tokenizer = SharedTokenizers.Docs26M;
        int[] ids = tokenizer.Encode("<｜User｜>Hi<｜Assistant｜><｜end▁of▁sentence｜>");
        Assert.Equal(3, ids[0]);
        Assert.Equal(1, ids[^1]);
        Assert.Equal("Hi", tokenizer.Decode(ids, skipSpecialTokens: true));
        Assert.Equal("", tokenizer.Decode([-1, 1_000_000]));
    }

    [Fact]
    public void A_saved_tokenizer_is_the_same()
    {
        Tokenizer tokenizer = SharedTokenizers.Docs26M;
        using var folder = new TemporaryFolder();
        tokenizer.Save(folder.Path);
        tokenizer.Save(folder.Path);
        Tokenizer again = Tokenizer.Load(folder.Path);
        Assert.Equal(tokenizer.Encode("Gets or sets 1234 things."), again.Encode("Gets or sets 1234 things."));
        Assert.Equal((tokenizer.BosId, tokenizer.EosId, tokenizer.VocabularySize), (again.BosId, again.EosId, again.VocabularySize));
    }
}
