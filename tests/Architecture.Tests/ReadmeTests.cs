using System.CommandLine;
using System.CommandLine.Parsing;
using System.Text.RegularExpressions;
using Krewe.Silo.Commands;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Architecture.Tests;

/// <summary>What README and docs show exists: commands with their options, linked files, named paths.</summary>
public partial class ReadmeTests
{
    private const string FromSource = "--project src/Silo --";

    private static readonly string Root = TestData.RepositoryRoot();

    public static TheoryData<string> Pages() =>
    [
        .. Directory.EnumerateFiles(Root, "*.md")
            .Concat(Directory.EnumerateFiles(Path.Combine(Root, "docs"), "*.md", SearchOption.AllDirectories))
            .Select(path => Path.GetRelativePath(Root, path).Replace('\\', '/')).Order(StringComparer.Ordinal),
    ];

    [Theory]
    [MemberData(nameof(Pages))]
    public void Commands_in_code_blocks_parse(string page)
    {
        RootCommand root = KreweCommand.Create(
            Terminal.Of(TextReader.Null, TextWriter.Null, TextWriter.Null), KreweCommand.Verbose());
        foreach ((int line, string command) in CodeLines(page).SelectMany(Commands))
        {
            string arguments = command.Replace("MODEL", "model", StringComparison.Ordinal);
            IReadOnlyList<ParseError> errors = root.Parse(arguments).Errors;
            Assert.True(
                errors.Count == 0,
                $"{page}:{line}: 'krewe {command}': {string.Join("; ", errors.Select(e => e.Message))}");
        }
    }

    [Theory]
    [MemberData(nameof(Pages))]
    public void Relative_links_lead_somewhere(string page)
    {
        string folder = Path.GetDirectoryName(Path.Combine(Root, page))!;
        foreach ((int line, string text) in ProseLines(page))
        {
            foreach (string target in Link().Matches(text).Select(link => link.Groups[1].Value + link.Groups[2].Value))
            {
                if (target.Contains("://", StringComparison.Ordinal) || target.StartsWith('#'))
                {
                    continue;
                }

                string path = Path.GetFullPath(Path.Combine(folder, target.Split('#')[0]));
                Assert.True(
                    path.StartsWith(Root, StringComparison.Ordinal) && (File.Exists(path) || Directory.Exists(path)),
                    $"{page}:{line}: the link '{target}' leads nowhere");
            }
        }
    }

    [Theory]
    [MemberData(nameof(Pages))]
    public void Paths_in_backticks_exist(string page)
    {
        foreach ((int line, string text) in ProseLines(page))
        {
            foreach (string path in RepositoryPath().Matches(text).Select(match => match.Groups[1].Value))
            {
                string full = Path.Combine(Root, path);
                Assert.True(File.Exists(full) || Directory.Exists(full), $"{page}:{line}: there is no '{path}'");
            }
        }
    }

    [Fact]
    public void Every_command_is_in_the_readme()
    {
        RootCommand root = KreweCommand.Create(
            Terminal.Of(TextReader.Null, TextWriter.Null, TextWriter.Null), KreweCommand.Verbose());
        string readme = File.ReadAllText(Path.Combine(Root, "README.md"));
        Assert.All(root.Subcommands, command =>
            Assert.Contains($"`krewe {command.Name}", readme, StringComparison.Ordinal));
    }

    /// <summary>Arguments of a line's krewe call: started as <c>krewe</c> or by dotnet run, perhaps piped.</summary>
    private static IEnumerable<(int Line, string Command)> Commands((int Line, string Text) shown)
    {
        string text = Comment().Replace(shown.Text, "").Trim();
        string last = text.Split(" | ")[^1].Trim();
        int fromSource = last.IndexOf(FromSource, StringComparison.Ordinal);
        if (last.StartsWith("dotnet run", StringComparison.Ordinal) && fromSource >= 0)
        {
            yield return (shown.Line, last[(fromSource + FromSource.Length)..].Trim());
        }
        else if (last == "krewe" || last.StartsWith("krewe ", StringComparison.Ordinal))
        {
            yield return (shown.Line, last["krewe".Length..].Trim());
        }
    }

    private static IEnumerable<(int Line, string Text)> CodeLines(string page) =>
        Lines(page).Where(line => line.IsCode).Select(line => (line.Number, line.Text));

    private static IEnumerable<(int Line, string Text)> ProseLines(string page) =>
        Lines(page).Where(line => !line.IsCode).Select(line => (line.Number, line.Text));

    private static IEnumerable<(int Number, string Text, bool IsCode)> Lines(string page)
    {
        bool code = false;
        int number = 0;
        foreach (string text in File.ReadLines(Path.Combine(Root, page)))
        {
            number++;
            bool fence = text.TrimStart().StartsWith("```", StringComparison.Ordinal);
            code ^= fence;
            if (!fence)
            {
                yield return (number, text, code);
            }
        }
    }

    /// <summary>A Markdown link or the source of an image.</summary>
    [GeneratedRegex("""\]\(([^)\s]+)\)|<img[^>]*\ssrc="([^"]+)""")]
    private static partial Regex Link();

    [GeneratedRegex(@"`((?:src|tests|benchmarks|docs|\.ci)/[\w./-]+)`")]
    private static partial Regex RepositoryPath();

    [GeneratedRegex(@"\s#\s.*$")]
    private static partial Regex Comment();
}
