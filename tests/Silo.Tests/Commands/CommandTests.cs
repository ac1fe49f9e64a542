using System.Text.Json.Nodes;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Silo.Tests.Commands;

/// <summary>Commands whose output a program may read.</summary>
public class CommandTests
{
    [Fact]
    public async Task Help_has_examples_and_is_no_fault()
    {
        Outcome root = await KreweProgram.RunAsync(["--help"]);
        Outcome train = await KreweProgram.RunAsync(["train", "--help"]);

        Assert.Equal((0, 0), (root.Code, train.Code));
        Assert.Contains("Examples:", root.Out, StringComparison.Ordinal);
        Assert.Contains("krewe train --run mine", train.Out, StringComparison.Ordinal);
        Assert.Empty(root.Error);
    }

    [Fact]
    public async Task Tokenize_goes_there_and_back()
    {
        Outcome ids = await KreweProgram.RunAsync(["tokenize", "--tokenizer", "bytes", "--json"], "[\"hé\", \"\"]");
        Assert.Equal("[[104,195,169],[]]", ids.Out.Trim());
        Outcome texts = await KreweProgram.RunAsync(["tokenize", "--tokenizer", "bytes", "--json", "--decode"], ids.Out);
        Assert.Equal("[\"hé\",\"\"]", texts.Out.Trim());
        Outcome plain = await KreweProgram.ExecuteAsync(["tokenize", "--tokenizer", "bytes"], "hé\n");
        Assert.Equal("104 195 169 10", plain.Out.Trim());
        Outcome decoded = await KreweProgram.ExecuteAsync(["tokenize", "--tokenizer", "bytes", "--decode"], plain.Out);
        Assert.Equal("hé", decoded.Out.Trim());
    }

    [Fact]
    public async Task Devices_are_listed()
    {
        Outcome outcome = await KreweProgram.RunAsync(["devices", "--json"]);
        JsonNode node = JsonNode.Parse(outcome.Out)!;
        Assert.Equal(0, outcome.Code);
        Assert.Equal(Environment.ProcessorCount, (int)node["cpu"]!["cores"]!);
        Assert.StartsWith("cpu/", (string)node["cpu"]!["kernels"]!, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(2)]
    public async Task Check_passes_on_released_fp8_weights(int silos)
    {
        string folder = Path.Combine(TestData.GoldenFolder, "base_fp8");
        string[] args =
        [
            "check", folder, "--against", Path.Combine(folder, "reference.safetensors"), "--silos", $"{silos}", "--json",
        ];

        Outcome passed = await KreweProgram.RunAsync(args);
        Outcome failed = await KreweProgram.RunAsync([.. args, "--tolerance", "1e-9"]);

        JsonObject report = JsonNode.Parse(passed.Out)!.AsObject();
        Assert.Equal(
            ["passed", "logits_max_abs", "expert_choices_equal", "loss_max_abs"], report.Select(pair => pair.Key));
        Assert.True((bool)report["passed"]!);
        Assert.InRange((double)report["logits_max_abs"]!, 0, 2e-4);
        Assert.Equal((0, 1), (passed.Code, failed.Code));
    }

    [Fact]
    public async Task Generate_streams_the_same_text_with_and_without_cluster_and_cache()
    {
        using var checkpoint = new SmallCheckpoint();
        string[] args = ["generate", checkpoint.Path, "--prompt", "Hello", "--max-tokens", "12", "--json"];
        var texts = new HashSet<string>();
        foreach (string[] extra in new string[][] { [], ["--no-cache"], ["--silos", "2", "--stages", "2"] })
        {
            Outcome outcome = await KreweProgram.RunAsync([.. args, .. extra]);
            Assert.Equal(0, outcome.Code);
            texts.Add(JsonNode.Parse(outcome.Out)!["tokens"]!.ToJsonString());
        }

        Assert.Single(texts);
    }

    [Theory]
    [InlineData("0")]
    [InlineData("2")]
    public async Task Generate_continues_many_texts_as_it_does_one_by_one(string silos)
    {
        using var checkpoint = new SmallCheckpoint();
        string prompts = checkpoint["prompts.txt"];
        await File.WriteAllTextAsync(prompts, "Hello\nThe number of\n");
        string[] args = ["generate", checkpoint.Path, "--max-tokens", "12", "--json", "--silos", silos, "--ignore-eos"];
        Outcome many = await KreweProgram.RunAsync([.. args, "--prompts", prompts, "--batch", "2"]);
        JsonArray sequences = JsonNode.Parse(many.Out)!["sequences"]!.AsArray();
        Assert.Equal(4, sequences.Count);
        for (int i = 0; i < 4; i++)
        {
            Outcome one = await KreweProgram.RunAsync([.. args, "--prompt", i < 2 ? "Hello" : "The number of"]);
            JsonNode alone = JsonNode.Parse(one.Out)!;
            Assert.Equal(alone["tokens"]!.ToJsonString(), sequences[i]!["tokens"]!.ToJsonString());
            Assert.Equal((int)alone["prompt_tokens"]!, (int)sequences[i]!["prompt_tokens"]!);
            Assert.Equal("length", (string)sequences[i]!["finish"]!);
        }
    }

    [Fact]
    public async Task Generate_draws_a_model_from_a_preset_and_a_seed()
    {
        var texts = new Dictionary<string, string>();
        foreach ((string seed, string silos, string precision) in
            ((string, string, string)[])[("3", "0", "fp32"), ("3", "2", "fp32"), ("4", "0", "fp32"), ("3", "1", "fp8")])
        {
            Outcome outcome = await KreweProgram.RunAsync(
            [
                "generate", "--preset", "tiny", "--prompt", "Hello", "--max-tokens", "8", "--json", "--seed", seed, "--silos",
                silos, "--precision", precision,
            ]);
            Assert.Equal((0, ""), (outcome.Code, outcome.Error));
            texts.Add($"{seed} {silos} {precision}", JsonNode.Parse(outcome.Out)!["tokens"]!.ToJsonString());
        }

        Assert.Equal(texts["3 0 fp32"], texts["3 2 fp32"]);
        Assert.NotEqual(texts["3 0 fp32"], texts["4 0 fp32"]);
        Assert.Equal(8, JsonNode.Parse(texts["3 1 fp8"])!.AsArray().Count);
    }

    [Theory]
    [InlineData("bf16")]
    [InlineData("fp8")]
    [InlineData("mxfp8")]
    public async Task A_precision_computes_the_same_with_and_without_a_cluster(string precision)
    {
        using var checkpoint = new SmallCheckpoint();
        string texts = checkpoint["texts.json"];
        await File.WriteAllTextAsync(texts, """["Hello, world.", "The number of elements."]""");
        string[][] commands =
        [
            ["eval", checkpoint.Path, "--texts", texts, "--json"],
            ["generate", checkpoint.Path, "--prompt", "Hello", "--max-tokens", "12", "--json"],
        ];
        var results = new List<string>();
        foreach (string[] command in commands)
        {
            foreach (string silos in (string[])["0", "2"])
            {
                Outcome outcome = await KreweProgram.RunAsync([.. command, "--precision", precision, "--silos", silos]);
                Assert.Equal(0, outcome.Code);
                JsonNode node = JsonNode.Parse(outcome.Out)!;
                results.Add((node["documents"] ?? node["tokens"])!.ToJsonString());
            }
        }

        Outcome exact = await KreweProgram.RunAsync(commands[0]);
        Assert.Equal((results[0], results[2]), (results[1], results[3]));
        Assert.NotEqual(results[0], JsonNode.Parse(exact.Out)!["documents"]!.ToJsonString());
    }

    [Fact]
    public async Task An_unexpected_fault_hints_at_the_trace()
    {
        using var cancelled = new CancellationTokenSource();
        await cancelled.CancelAsync();
        using var checkpoint = new SmallCheckpoint();
        Outcome outcome = await KreweProgram.RunAsync(
            ["generate", checkpoint.Path, "--prompt", "x"], cancellation: cancelled.Token);
        Assert.Equal((1, "krewe: interrupted"), (outcome.Code, outcome.Error.Trim()));
        (string message, int code) = Krewe.Silo.Commands.Faults.Describe(
            new AggregateException(new InvalidOperationException("outer", new Model.KreweException("mend\nthis"))));
        Assert.Equal(("mend\nthis", 2), (message, code));
        Assert.Equal(1, Krewe.Silo.Commands.Faults.Describe(new Model.KreweException("a kernel is wrong:\na log")).Code);
    }
}
