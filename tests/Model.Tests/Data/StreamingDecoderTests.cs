using Krewe.Model.Data;
using Xunit;

namespace Krewe.Model.Tests.Data;

public sealed class StreamingDecoderTests
{
    [Fact]
    public void Pieces_are_whole_and_join_to_the_text()
    {
        Tokenizer[] tokenizers = [new ByteTokenizer()];
        var random = new StableRandom(5);
        foreach (Tokenizer tokenizer in tokenizers)
        {
            CheckTexts(tokenizer, random);
        }
    }

    [Fact]
    public void Pieces_of_deepseek_tokens_are_whole() => CheckTexts(SharedTokenizers.DeepSeekV3, new(6));

    [Fact]
    public void Random_ids_give_what_decoding_gives()
    {
        var tokenizer = new ByteTokenizer();
        var random = new StableRandom(9);
        for (int i = 0; i < 300; i++)
        {
            // 0xED would open the three-byte form of surrogates, which only the whole-text decoder reads.
            int[] ids = [.. Enumerable.Range(0, 40).Select(_ => random.NextInt(258)).Where(id => id != 0xED)];
            StreamingDecoder decoder = tokenizer.CreateStreamingDecoder(skipSpecialTokens: false);
            Assert.Equal(tokenizer.Decode(ids), string.Concat(ids.Select(decoder.Append)) + decoder.Flush());
        }
    }

    [Fact]
    public void An_open_character_is_held_back_and_flushed_as_replacement()
    {
        StreamingDecoder decoder = new ByteTokenizer().CreateStreamingDecoder();
        Assert.Equal("", decoder.Append(0xF0));
        Assert.Equal("", decoder.Append(0x9F));
        Assert.Equal("\uFFFD", decoder.Flush());
        Assert.Equal("a", decoder.Append('a'));
        Assert.Equal("", decoder.Append(257));
        Assert.Equal("", decoder.Flush());
    }

    private static void CheckTexts(Tokenizer tokenizer, StableRandom random)
    {
        for (int i = 0; i < 100; i++)
        {
            string text = RandomText.Create(random, 30);
            StreamingDecoder decoder = tokenizer.CreateStreamingDecoder();
            string[] pieces = [.. tokenizer.Encode(text).Select(decoder.Append)];
            Assert.All(pieces, piece => Assert.False(
                piece.Length > 0 && (char.IsLowSurrogate(piece[0]) || char.IsHighSurrogate(piece[^1]) || piece.Contains('\uFFFD'))));
            Assert.Equal(text, string.Concat(pieces));
            Assert.Equal("", decoder.Flush());
        }
    }
}
