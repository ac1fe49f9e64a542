using Krewe.Model.Data;
using Xunit;

namespace Krewe.Model.Tests.Data;

public sealed class TokenizerErrorTests
{
    private const string ByteLevel = """{"type":"ByteLevel","add_prefix_space":false,"use_regex":true}""";

    [Fact]
    public void A_missing_file_is_named()
    {
        using var folder = new TemporaryFolder();
        string message = Assert.Throws<KreweException>(() => Tokenizer.Load(folder.Path)).Message;
        Assert.Contains("tokenizer.json", message);
    }

    [Theory]
    [InlineData("{", "cannot be read")]
    [InlineData("[]", "cannot be read")]
    [InlineData("{}", "cannot be read")]
    [InlineData("""{"model":{"type":"Unigram","vocab":[]}}""", "model type 'Unigram'")]
    [InlineData("""{"model":{"type":"BPE","byte_fallback":true,"vocab":{},"merges":[]}}""", "'byte_fallback'")]
    [InlineData("""{"normalizer":{"type":"NFC"},"model":{"type":"BPE","vocab":{},"merges":[]}}""", "normalizer 'NFC'")]
    [InlineData("""{"pre_tokenizer":{"type":"Metaspace"},"model":{"type":"BPE","vocab":{},"merges":[]}}""", "'Metaspace'")]
    [InlineData("""{"model":{"type":"BPE","vocab":{},"merges":[]}}""", "without ByteLevel")]
    [InlineData("""{"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"\\p{Han}("},"behavior":"Isolated"}]},"model":{"type":"BPE","vocab":{},"merges":[]}}""", "expression")]
    [InlineData("""{"pre_tokenizer":{"type":"Split","pattern":{"String":" "},"behavior":"Removed"},"model":{"type":"BPE","vocab":{},"merges":[]}}""", "'Removed'")]
    [InlineData("""{"added_tokens":[{"id":1,"content":"<x>","lstrip":true}],"model":{"type":"BPE","vocab":{},"merges":[]}}""", "'lstrip'")]
    [InlineData("{\"pre_tokenizer\":" + ByteLevel + ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", "tokenizer")]
    public void A_fault_is_one_line(string json, string expected)
    {
        using var folder = new TemporaryFolder();
        string file = folder.Write("tokenizer.json", json);
        string message = Assert.Throws<KreweException>(() => Tokenizer.Load(file)).Message;
        Assert.Contains(expected, message);
        Assert.Contains(file, message);
        Assert.DoesNotContain('\n', message);
    }

    [Fact]
    public void A_broken_config_beside_it_is_an_error()
    {
        using var folder = new TemporaryFolder();
        new ByteTokenizer().Save(folder.Path);
        folder.Write("tokenizer_config.json", "{");
        Assert.Contains("tokenizer_config.json", Assert.Throws<KreweException>(() => Tokenizer.Load(folder.Path)).Message);
    }

    [Fact]
    public void Ends_without_config_come_from_usual_names()
    {
        using var folder = new TemporaryFolder();
        string file = folder.Write("tokenizer.json",
            $$$"""{"pre_tokenizer":{{{ByteLevel}}},"added_tokens":[{"id":3,"content":"<|endoftext|>","special":true}],"model":{"vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]]}}""");
        Tokenizer tokenizer = Tokenizer.Load(file);
        Assert.Equal((null, 3, 4), (tokenizer.BosId, tokenizer.EosId, tokenizer.VocabularySize));
        Assert.Equal([2, 0, 3, 1], tokenizer.Encode("aba<|endoftext|>b"));
    }
}
