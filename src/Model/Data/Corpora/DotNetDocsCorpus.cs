using System.Text;

namespace Krewe.Model.Data.Corpora;

/// <summary>
/// The English text of the XML documentation that every .NET SDK carries: about 13 MB in 66,000 entries, one document
/// for each documented member. Always there where Krewe is built, so a first run needs no download; and dull enough in
/// style that a small model learns it well.
/// </summary>
public static class DotNetDocsCorpus
{
    // Shorter entries are bare names and single words, which teach nothing.
    private const int MinimumCharacters = 20;

    /// <summary>The documentation of the SDK found on this machine; null where there is none.</summary>
    public static TextCorpus? TryOpen() =>
        CandidateRoots().Where(Directory.Exists).Select(TryOpen).FirstOrDefault(corpus => corpus is not null);

    /// <summary>The documentation under one dotnet root; null where that holds none.</summary>
    /// <param name="dotnetRoot">The folder with <c>packs</c> in it.</param>
    public static TextCorpus? TryOpen(string dotnetRoot)
    {
        string packs = Path.Combine(dotnetRoot, "packs");
        if (!Directory.Exists(packs))
        {
            return null;
        }

        var seen = new HashSet<string>(StringComparer.Ordinal);
        var documents = new List<string>();
        foreach (string file in FindFiles(packs))
        {
            foreach (string text in XmlDocumentationReader.Read(file))
            {
                if (text.Length >= MinimumCharacters && seen.Add(text))
                {
                    documents.Add(text);
                }
            }
        }

        return documents.Count == 0 ? null : new(".NET documentation", documents);
    }

    /// <summary>The newest version of every reference pack, its files in ordinal order of names.</summary>
    private static IEnumerable<string> FindFiles(string packs) =>
        from pack in Sorted(Directory.EnumerateDirectories(packs))
        let newest = Directory.EnumerateDirectories(pack)
            .Where(version => Directory.Exists(Path.Combine(version, "ref")))
            .MaxBy(version => ParseVersion(Path.GetFileName(version)))
        where newest is not null
        from framework in Sorted(Directory.EnumerateDirectories(Path.Combine(newest, "ref")))
        from file in Sorted(Directory.EnumerateFiles(framework, "*.xml"))
        select file;

    private static IEnumerable<string> Sorted(IEnumerable<string> paths) =>
        paths.OrderBy(Path.GetFileName, StringComparer.Ordinal);

    // Previews ("10.0.0-rc.1") sort below their release.
    private static (Version Number, bool IsRelease, string Text) ParseVersion(string text) =>
        (Version.TryParse(text.Split('-')[0], out Version? version) ? version : new(0, 0),
         !text.Contains('-', StringComparison.Ordinal),
         text);

    private static IEnumerable<string> CandidateRoots()
    {
        if (Environment.GetEnvironmentVariable("DOTNET_ROOT") is { Length: > 0 } configured)
        {
            yield return configured;
        }

        // The running runtime lies in ROOT/shared/Microsoft.NETCore.App/VERSION, unless the program is self-contained.
        string runtime = System.Runtime.InteropServices.RuntimeEnvironment.GetRuntimeDirectory();
        yield return Path.GetFullPath(Path.Combine(runtime, "..", "..", ".."));

        string[] usual =
            ["/usr/share/dotnet", "/usr/lib/dotnet", "/usr/lib64/dotnet", "/usr/local/share/dotnet", "/opt/dotnet"];
        foreach (string root in usual)
        {
            yield return root;
        }

        yield return Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".dotnet");
        yield return Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.ProgramFiles), "dotnet");
        string name = OperatingSystem.IsWindows() ? "dotnet.exe" : "dotnet";
        foreach (string folder in (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator))
        {
            string program = Path.Combine(folder, name);
            if (folder.Length > 0 && File.Exists(program))
            {
                yield return Path.GetDirectoryName(File.ResolveLinkTarget(program, true)?.FullName ?? program)!;
            }
        }
    }
}
