using Krewe.Client;
using Krewe.Grains.Interfaces;
using Krewe.Grains.Interfaces.Experts;
using Krewe.Grains.Interfaces.Serving;
using Krewe.Grains.Training;
using Krewe.Model.Checkpoints;
using Krewe.Model.Configuration;
using Krewe.Model.Data;
using Krewe.Model.Training;
using Krewe.Silo.Hosting;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Architecture.Tests;

/// <summary>The C# of the README: it compiles, it runs, and the README shows exactly this.</summary>
public class ReadmeSnippetTests
{
    private const string Begin = "// README begins";
    private const string End = "// README ends";

    [Fact]
    public async Task It_runs_on_two_silos()
    {
        using var temporary = new TemporaryFolder();
        string folder = temporary["model"];
        ModelConfig config = ModelPresets.Get("tiny");
        var values = new SeededParameters(1, config.InitializerRange);
        CheckpointWriter.Write(
            folder, config, new(),
            (spec, destination) => values.Read(spec.Source ?? spec.Name, spec.Shape, destination));
        new ByteTokenizer().Save(folder);
        TextWriter console = Console.Out;
        using var printed = new StringWriter();
        Console.SetOut(printed);
        try
        {
            await SnippetAsync(folder);
        }
        finally
        {
            Console.SetOut(console);
        }

        Assert.Contains("expert 1/9 lives on silo-1", printed.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void The_readme_shows_this_code()
    {
        string root = TestData.RepositoryRoot();
        string[] here = File.ReadAllLines(
            Path.Combine(root, "tests", "Architecture.Tests", $"{nameof(ReadmeSnippetTests)}.cs"));
        IEnumerable<string> code = here.SkipWhile(line => line.Trim() != Begin).Skip(1)
            .TakeWhile(line => line.Trim() != End).Select(line => line.Trim());
        IEnumerable<string> shown = File.ReadAllLines(Path.Combine(root, "README.md"))
            .SkipWhile(line => line != "```csharp").Skip(1)
            .TakeWhile(line => line != "```").Select(line => line.Trim());
        Assert.Equal(code, shown);
    }

    private static async Task SnippetAsync(string folder)
    {
        // README begins
        await using EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(new() { Silos = 2 });
        var source = new ModelSource { ConfigJson = ModelConfig.Load(folder).ToJson(), Checkpoint = folder };
        await using var model = await ClusterModel.CreateAsync(cluster.Grains, "docs", source, cluster.SiloNames, 1);
        var krewe = new KreweClient(cluster.Grains);
        Tokenizer tokenizer = Tokenizer.Load(folder);
        int[] prompt = [.. new[] { tokenizer.BosId }.OfType<int>(), .. tokenizer.Encode("Gets the")];
        await foreach (TokenUpdate update in krewe.GenerateAsync("docs", new() { Prompt = prompt, MaxTokens = 40 }))
            Console.Write(tokenizer.Decode([update.Token]));
        ExpertStatus expert = await krewe.ExpertAsync("docs", layer: 1, expert: 9);
        Console.WriteLine($"\nexpert 1/9 lives on {expert.Silo} and took {expert.Tokens} tokens");
        // README ends
    }
}
