using System.Text.Json.Nodes;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Silo.Tests.Commands;

/// <summary>The trained 26M model against what transformers computed for it.</summary>
public class SharedCheckpointTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(2)]
    public async Task Eval_reproduces_the_reference(int silos)
    {
        string folder = Folder();
        JsonNode reference = JsonNode.Parse(await File.ReadAllTextAsync(Path.Combine(folder, "reference.json")))!;

        Outcome outcome = await KreweProgram.RunAsync(
            ["eval", folder, "--texts", Path.Combine(folder, "held_out.json"), "--silos", $"{silos}", "--json"]);

        JsonNode actual = JsonNode.Parse(outcome.Out)!;
        double[] expected = [.. reference["per_doc_nll"]!.AsArray().Select(nll => (double)nll!)];
        JsonArray documents = actual["documents"]!.AsArray();
        Assert.Equal(expected.Length, documents.Count);
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.Equal(expected[i], (double)documents[i]!["nll"]!, expected[i] * 1e-3);
        }

        Assert.Equal(2.825990, (double)actual["mean_nll"]!, 2.825990 * 1e-3);
        Assert.Equal(0.618, (double)actual["mtp_agreement"]!, 0.003);
        Assert.Equal((int)reference["tokens_scored"]!, documents.Sum(document => (int)document!["tokens"]!));
    }

    [Theory]
    [InlineData()]
    [InlineData("--no-cache")]
    [InlineData("--silos", "2", "--stages", "2")]
    public async Task Greedy_continuations_are_equal(params string[] extra)
    {
        string folder = Folder();
        JsonNode reference = JsonNode.Parse(await File.ReadAllTextAsync(Path.Combine(folder, "reference.json")))!;
        foreach (JsonNode? greedy in reference["greedy"]!.AsArray())
        {
            JsonArray ids = greedy!["greedy_ids"]!.AsArray();
            Outcome outcome = await KreweProgram.RunAsync(
            [
                "generate", folder, "--prompt", (string)greedy["prompt"]!, "--max-tokens", $"{ids.Count}", "--json", .. extra,
            ]);
            Assert.Equal(ids.ToJsonString(), JsonNode.Parse(outcome.Out)!["tokens"]!.ToJsonString());
        }
    }

    private static string Folder()
    {
        string? shared = TestData.SharedFolder();
        Assert.SkipWhen(shared is null, "the shared checkpoint is not beside the repository");
        return Path.Combine(shared!, "checkpoints", "docs-26m");
    }
}
