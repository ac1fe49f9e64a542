using Krewe.Model.Data;
using Xunit;

namespace Krewe.Model.Tests.Data;

public sealed class ByteTokenizerTests
{
    private readonly ByteTokenizer _tokenizer = new();

    [Fact]
    public void Ids_are_the_bytes_of_utf8()
    {
        Assert.Equal([72, 105, 0xC3, 0xA9, 0xF0, 0x9F, 0x99, 0x82], _tokenizer.Encode("Hié🙂"));
        Assert.Equal((258, 256, 257), (_tokenizer.VocabularySize, _tokenizer.BosId, _tokenizer.EosId));
    }

    [Theory]
    [InlineData("")]
    [InlineData("\uD83D")]
    [InlineData("\uDE42")]
    [InlineData("a\uD800b\uDFFFc")]
    [InlineData("\uDC00\uD800")]
    [InlineData("\uD800\uD83D\uDE42\uDC00")]
    [InlineData("\0\u007F\u0080\u07FF\u0800\uFFFF🙂")]
    [InlineData("<｜begin▁of▁sentence｜>text<｜end▁of▁sentence｜><｜end")]
    public void Any_string_comes_back(string text) => Assert.Equal(text, _tokenizer.Decode(_tokenizer.Encode(text)));

    [Fact]
    public void Any_random_units_come_back()
    {
        var random = new StableRandom(11);
        for (int i = 0; i < 500; i++)
        {
            // Every third unit is a surrogate, paired or not.
            string text = new([.. Enumerable.Range(0, 30).Select(_ =>
                (char)(random.NextInt(3) == 0 ? 0xD800 + random.NextInt(0x800) : random.NextInt(0x10000)))]);
            Assert.Equal(text, _tokenizer.Decode(_tokenizer.Encode(text)));
        }
    }

    [Fact]
    public void Invalid_bytes_become_replacement_characters() =>
        Assert.Equal("a\uFFFDb", _tokenizer.Decode([97, 0xFF, 98]));

    [Fact]
    public void Special_tokens_are_one_id()
    {
        Assert.Equal([256, 97, 257], _tokenizer.Encode("<｜begin▁of▁sentence｜>a<｜end▁of▁sentence｜>"));
        Assert.Equal("a", _tokenizer.Decode([256, 97, 257], skipSpecialTokens: true));
    }

    [Fact]
    public void A_saved_tokenizer_is_a_byte_tokenizer_again()
    {
        using var folder = new TemporaryFolder();
        _tokenizer.Save(folder.Path);
        Assert.IsType<ByteTokenizer>(Tokenizer.Load(folder.Path));
    }
}
