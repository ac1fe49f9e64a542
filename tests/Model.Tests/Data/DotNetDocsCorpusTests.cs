using Krewe.Model.Data;
using Krewe.Model.Data.Corpora;
using Xunit;

namespace Krewe.Model.Tests.Data;

public sealed class DotNetDocsCorpusTests : IDisposable
{
    private readonly TemporaryFolder _root = new();

    public void Dispose() => _root.Dispose();

    [Fact]
    public void Entries_are_readable_text()
    {
        Write("A.Ref", "1.0.0", "a.xml", """
            <member name="M:A.B">
              <summary>Joins  a <see cref="T:System.String" />
                with <paramref name="other" /> by <see cref="M:System.IO.Path.Join(System.String,System.Collections.Generic.List{System.Int32}@)"/>.</summary>
              <param name="other">The other; <see langword="null" /> gives <c>0</c> &amp; no more.</param>
              <exception cref="T:System.Exception"><paramref name="other" /> is bad.<para>-or-</para>All is.</exception>
              <returns>A <see cref="M:System.Version.#ctor(System.String)" />, see <see href="http://x">the site</see>.</returns>
              <seealso cref="T:System.Object" />
            </member>
            <member name="P:A.C"><inheritdoc /></member>
            """);
        Assert.Equal(
            ["Joins a String with other by Join(String, List{Int32}). The other; null gives 0 & no more. other is bad. " +
             "-or- All is. A Version(String), see the site."],
            DotNetDocsCorpus.TryOpen(_root.Path)!.Documents);
    }

    [Fact]
    public void Order_is_by_name_newest_version_without_repetition()
    {
        Write("B.Ref", "9.0.1", "a.xml", Member("This one is of an older version."));
        Write("B.Ref", "10.0.0", "b.xml", Member("This is the second file of B.") + Member("This is the first file of A."));
        Write("B.Ref", "10.0.0", "a.xml", Member("This is the first file of B."));
        Write("B.Ref", "10.0.0-rc.1", "c.xml", Member("This is a preview of the same."));
        Write("A.Ref", "1.0.0", "z.xml", Member("This is the first file of A.") + Member("Short."));
        _root.Write("packs/C.Ref/1.0.0/ref/net10.0/broken.xml", "<doc><members>" + Member("This comes before a fault.") + "<member");
        Assert.Equal(
            ["This is the first file of A.", "This is the first file of B.", "This is the second file of B.", "This comes before a fault."],
            DotNetDocsCorpus.TryOpen(_root.Path)!.Documents);
    }

    [Fact]
    public void Without_documentation_there_is_no_corpus()
    {
        Assert.Null(DotNetDocsCorpus.TryOpen(_root.Path));
        Directory.CreateDirectory(Path.Combine(_root.Path, "packs", "A.Ref", "1.0.0"));
        Assert.Null(DotNetDocsCorpus.TryOpen(_root.Path));
    }

    [Fact]
    public void The_sdk_of_this_machine_gives_megabytes()
    {
        TextCorpus? corpus = DotNetDocsCorpus.TryOpen();
        Assert.SkipWhen(corpus is null, "no .NET SDK with reference documentation");
        Assert.True(corpus.Documents.Count > 10_000, $"{corpus.Documents.Count} documents");
        Assert.Contains(corpus.Documents, text => text.StartsWith("Converts the value of this instance to", StringComparison.Ordinal));
        Assert.DoesNotContain(corpus.Documents, text => text.Contains("  ", StringComparison.Ordinal) || text.Contains("<see", StringComparison.Ordinal));
    }

    [Fact]
    public void Generated_text_is_the_same_everywhere()
    {
        TextCorpus corpus = GeneratedCorpus.Create(documents: 50, notice: "a notice");
        Assert.Equal("a notice", corpus.Notice);
        Assert.Equal(50, corpus.Documents.Count);
        Assert.Equal(corpus.ContentHash, GeneratedCorpus.Create(documents: 50).ContentHash);
        Assert.NotEqual(corpus.ContentHash, GeneratedCorpus.Create(documents: 50, seed: 2).ContentHash);
        Assert.Matches("^[A-Z][a-z ]+\\.", corpus.Documents[0]);
    }

    private static string Member(string summary) => $"<member name=\"T:A\"><summary>{summary}</summary></member>";

    private void Write(string pack, string version, string file, string members) =>
        _root.Write($"packs/{pack}/{version}/ref/net10.0/{file}",
            $"<?xml version=\"1.0\"?><doc><assembly><name>a</name></assembly><members>{members}</members></doc>");
}
