using System.Xml.Linq;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Architecture.Tests;

/// <summary>The direction of references between projects, and rooms that must not exist (docs/ARCHITECTURE.md, section 2).</summary>
public class ReferenceDirectionTests
{
    private static readonly Dictionary<string, string[]> Allowed = new()
    {
        ["Model"] = [],
        ["Gpu"] = ["Model"],
        ["Grains.Interfaces"] = ["Model"],
        ["Grains"] = ["Grains.Interfaces", "Model"],
        ["Client"] = ["Grains.Interfaces", "Model"],
        ["Silo"] = ["Grains", "Gpu", "Client", "Grains.Interfaces", "Model"],
    };

    private static readonly string[] NoRoom = ["Utils", "Util", "Helpers", "Common", "Managers", "Misc"];

    private static string Source => Path.Combine(TestData.RepositoryRoot(), "src");

    [Fact]
    public void Projects_reference_only_what_lies_below_them()
    {
        foreach ((string project, string[] allowed) in Allowed)
        {
            XDocument file = XDocument.Load(Path.Combine(Source, project, project + ".csproj"));
            string[] references = [.. file.Descendants("ProjectReference")
                .Select(reference => Path.GetFileNameWithoutExtension((string)reference.Attribute("Include")!))];
            Assert.Empty(references.Except(allowed));
        }
    }

    [Fact]
    public void Every_project_below_src_has_a_rule() =>
        Assert.Equal(Allowed.Keys.Order(), Directory.GetDirectories(Source).Select(folder => Path.GetFileName(folder)).Order());

    [Theory]
    [InlineData("Model")]
    [InlineData("Gpu")]
    public void Maths_knows_nothing_of_Orleans(string project)
    {
        XDocument file = XDocument.Load(Path.Combine(Source, project, project + ".csproj"));
        Assert.DoesNotContain(
            file.Descendants("PackageReference"),
            package => ((string)package.Attribute("Include")!).Contains("Orleans", StringComparison.Ordinal));
        Assert.DoesNotContain(
            SourceFiles(project), path => File.ReadAllText(path).Contains("using Orleans", StringComparison.Ordinal));
    }

    [Fact]
    public void No_folder_is_a_room_for_everything() => Assert.DoesNotContain(
        Directory.EnumerateDirectories(Source, "*", SearchOption.AllDirectories),
        folder => NoRoom.Contains(Path.GetFileName(folder), StringComparer.OrdinalIgnoreCase));

    [Fact]
    public void Namespaces_are_Krewe() => Assert.All(
        Allowed.Keys.SelectMany(SourceFiles),
        path => Assert.DoesNotContain(
            File.ReadLines(path), line => line.StartsWith("namespace ", StringComparison.Ordinal)
                && !line.StartsWith("namespace Krewe", StringComparison.Ordinal)));

    private static IEnumerable<string> SourceFiles(string project) =>
        Directory.EnumerateFiles(Path.Combine(Source, project), "*.cs", SearchOption.AllDirectories)
            .Where(path => !path.Contains($"{Path.DirectorySeparatorChar}obj{Path.DirectorySeparatorChar}", StringComparison.Ordinal)
                && !path.Contains($"{Path.DirectorySeparatorChar}bin{Path.DirectorySeparatorChar}", StringComparison.Ordinal));
}
