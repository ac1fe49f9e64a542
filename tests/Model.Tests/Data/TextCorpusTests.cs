using Krewe.Model.Data;
using Xunit;

namespace Krewe.Model.Tests.Data;

public sealed class TextCorpusTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_text_file_is_one_document()
    {
        TextCorpus corpus = TextCorpus.Open(_folder.Write("input.txt", "first\n\nsecond\n"));
        Assert.Equal(["first\n\nsecond\n"], corpus.Documents);
        Assert.Equal("input.txt", corpus.Name);
        Assert.Null(corpus.Notice);
    }

    [Fact]
    public void End_of_text_markers_separate_documents() => Assert.Equal(
        ["one", "two", "\nthree"],
        TextCorpus.Open(_folder.Write("a.txt", "one<|endoftext|>two<｜end▁of▁sentence｜>\nthree<|endoftext|>\n")).Documents);

    [Fact]
    public void Json_lines_are_documents() => Assert.Equal(
        ["a\nb", "c"], TextCorpus.Open(_folder.Write("a.jsonl", "{\"text\":\"a\\nb\",\"n\":1}\r\n\n\"c\"\n")).Documents);

    [Fact]
    public void A_json_array_is_documents() => Assert.Equal(
        ["a", "b"], TextCorpus.Open(_folder.Write("a.json", """["a", {"text": "b"}, " "]""")).Documents);

    [Fact]
    public void A_folder_is_read_in_ordinal_order()
    {
        _folder.Write("b.txt", "3");
        _folder.Write("B.md", "1");
        _folder.Write("a/z.jsonl", "\"2a\"\n\"2b\"");
        _folder.Write("c.json", "[\"not read\"]");
        _folder.Write("c.bin", "not read");
        Assert.Equal(["1", "2a", "2b", "3"], TextCorpus.Open(_folder.Path).Documents);
    }

    [Theory]
    [InlineData("a.jsonl", "{\"text\":\"a\"}\n\n{\"text\":", "line 3")]
    [InlineData("a.jsonl", "{\"text\":\"a\"}\n{\"texts\":\"a\"}", "line 2: the object has no \"text\"")]
    [InlineData("a.jsonl", "{\"text\":5}", "line 1: expected a string")]
    [InlineData("a.jsonl", "{\"text\":\"\\ud800\"}", "line 1")]
    [InlineData("a.json", "{\"text\":\"a\"}", "no JSON array")]
    [InlineData("a.json", "[", "a.json")]
    [InlineData("a.json", "[1]", "element 0")]
    [InlineData("a.txt", " \n", "no text in 'a.txt'")]
    [InlineData("a.jsonl", "", "no text in 'a.jsonl'")]
    public void A_fault_is_one_line(string name, string content, string expected)
    {
        string message = Assert.Throws<KreweException>(() => TextCorpus.Open(_folder.Write(name, content))).Message;
        Assert.Contains(expected, message);
        Assert.DoesNotContain('\n', message);
    }

    [Fact]
    public void Missing_empty_and_binary_data_are_errors()
    {
        Assert.Contains("neither a file nor a folder", Fault(Path.Combine(_folder.Path, "none")));
        Assert.Contains("no *.txt", Fault(_folder.Path));
        string file = Path.Combine(_folder.Path, "b.txt");
        File.WriteAllBytes(file, [0x61, 0xFF, 0x61]);
        Assert.Contains("not UTF-8", Fault(file));

        static string Fault(string path) => Assert.Throws<KreweException>(() => TextCorpus.Open(path)).Message;
    }

    [Fact]
    public void The_hash_sees_text_order_and_borders()
    {
        string hash = new TextCorpus("x", ["ab", "c"]).ContentHash;
        Assert.Equal(64, hash.Length);
        Assert.Equal(hash, new TextCorpus("y", ["ab", "c", ""]).ContentHash);
        Assert.NotEqual(hash, new TextCorpus("x", ["c", "ab"]).ContentHash);
        Assert.NotEqual(hash, new TextCorpus("x", ["a", "bc"]).ContentHash);
    }
}
