using System.Text.Json.Nodes;
using Krewe.Silo.Commands.Train;
using Xunit;

namespace Krewe.Silo.Tests.Commands;

/// <summary>Bad input: one line that says what and where, exit code 2, no trace, nothing half-written.</summary>
public class BadInputTests
{
    private static readonly Dictionary<string, (Action<SmallCheckpoint> Damage, string Says)> Damages = new()
    {
        ["missing weights"] = (c => File.Delete(c.Weights), "model.safetensors"),
        ["missing config"] = (c => File.Delete(Path.Combine(c.Path, "config.json")), "config.json"),
        ["truncated"] = (c =>
        {
            using FileStream file = File.OpenWrite(c.Weights);
            file.SetLength(file.Length - 100);
        }, "model.safetensors"),
        ["header beyond the file"] = (c =>
        {
            using FileStream file = File.OpenWrite(c.Weights);
            file.Write(BitConverter.GetBytes(1L << 40));
        }, "header"),
        ["overlapping tensors"] = (c => c.EditHeader(header =>
        {
            JsonObject[] entries = [.. header.Where(pair => pair.Key != "__metadata__").Select(pair => pair.Value!.AsObject())];
            JsonObject[] alike = [.. entries.GroupBy(entry => entry["shape"]!.ToJsonString()).First(group => group.Count() > 1)];
            alike[1]["data_offsets"] = alike[0]["data_offsets"]!.DeepClone();
        }), "overlap"),
        ["short tensor"] = (c => c.EditHeader(header =>
        {
            JsonArray offsets = Offsets(header, 0);
            offsets[1] = (long)offsets[1]! - 4;
        }), "model.safetensors"),
        ["unknown dtype"] = (c => c.EditHeader(header => Entry(header, 0)["dtype"] = "F99"), "F99"),
        ["shape against the config"] = (c => c.EditConfig("vocab_size", 272), "272"),
        ["n_group does not divide"] = (c => c.EditConfig("n_group", 3), "n_group 3"),
        ["topk_group above n_group"] = (c => c.EditConfig("topk_group", 5), "topk_group is 5"),
        ["config is no JSON"] = (c => File.WriteAllText(Path.Combine(c.Path, "config.json"), "{"), "config.json"),
    };

    public static TheoryData<string, string> Cases()
    {
        var cases = new TheoryData<string, string>();
        foreach (string damage in Damages.Keys)
        {
            cases.Add(damage, "generate");
            cases.Add(damage, "eval");
            cases.Add(damage, "check");
        }

        return cases;
    }

    [Theory, MemberData(nameof(Cases))]
    public async Task A_damaged_checkpoint_is_refused(string damage, string command)
    {
        using var checkpoint = new SmallCheckpoint();
        string texts = checkpoint["texts.json"];
        await File.WriteAllTextAsync(texts, "[\"one\"]");
        string reference = checkpoint["reference.safetensors"];
        File.Copy(checkpoint.Weights, reference);
        Damages[damage].Damage(checkpoint);

        await RefusesAsync(checkpoint, Damages[damage].Says, command switch
        {
            "generate" => [command, checkpoint.Path, "--prompt", "x"],
            "eval" => [command, checkpoint.Path, "--texts", texts],
            _ => [command, checkpoint.Path, "--against", reference],
        });
    }

    [Fact]
    public async Task A_tokenizer_larger_than_the_vocabulary_is_refused()
    {
        using var checkpoint = new SmallCheckpoint(vocabulary: 64);
        await RefusesAsync(checkpoint, "vocab_size is 64", ["generate", checkpoint.Path, "--prompt", "x"]);
        string config = Path.Combine(checkpoint.Path, "config.json");
        await RefusesAsync(
            checkpoint, "vocab_size is 64", ["train", "--config", config, "--output", checkpoint["run"]]);
    }

    [Theory]
    [InlineData("empty.txt", "no text")]
    [InlineData("missing.txt", "no training data")]
    [InlineData("folder", "no *.txt")]
    [InlineData("bad.jsonl", "bad.jsonl")]
    public async Task Data_without_text_is_refused(string name, string says)
    {
        using var checkpoint = new SmallCheckpoint();
        await File.WriteAllTextAsync(checkpoint["empty.txt"], " \n");
        await File.WriteAllTextAsync(checkpoint["bad.jsonl"], "{\"text\": 1}\n");
        Directory.CreateDirectory(checkpoint["folder"]);
        await RefusesAsync(checkpoint, says, ["train", "--data", checkpoint[name], "--output", checkpoint["run"]]);
    }

    [Theory]
    [InlineData("--silos", "1000", "at most 32")]
    [InlineData("--learning-rate", "0,004", "decimal point")]
    [InlineData("--balance-alpha", "-1", "balance")]
    [InlineData("--steps", "0", "at least 1")]
    [InlineData("--stages", "9", "stages")]
    public async Task Numbers_out_of_range_are_refused(string option, string value, string says)
    {
        using var checkpoint = new SmallCheckpoint();
        await RefusesAsync(checkpoint, says, ["train", option, value, "--output", checkpoint["run"]]);
    }

    [Fact]
    public async Task A_folder_in_use_is_refused()
    {
        using var checkpoint = new SmallCheckpoint();
        Directory.CreateDirectory(checkpoint["run"]);
        using RunLock held = RunLock.Take(checkpoint["run"]);
        await RefusesAsync(checkpoint, "another krewe trains here", ["train", "--output", checkpoint["run"]]);
    }

    [Fact]
    public async Task A_folder_that_cannot_be_written_is_refused()
    {
        using var checkpoint = new SmallCheckpoint();
        string file = checkpoint["file"];
        await File.WriteAllTextAsync(file, "");
        await RefusesAsync(checkpoint, "cannot be written", ["train", "--output", Path.Combine(file, "run")]);
    }

    [Theory]
    [InlineData("no preset 'huge'", "train", "--preset", "huge")]
    [InlineData("unknown option '--stepps': did you mean --steps?", "train", "--stepps", "3")]
    [InlineData("unknown command 'trian': did you mean train?", "trian")]
    [InlineData("a whole number is wanted", "train", "--steps", "many")]
    [InlineData("--steps must be at least 1", "train", "--steps", "0")]
    [InlineData("micro-batches do not divide", "train", "--batch", "8", "--micro-batches", "3")]
    [InlineData("no precision 'fp16': choose fp32, bf16, fp8, mxfp8", "train", "--precision", "fp16")]
    [InlineData("is no PART=NAME with a part of linear", "train", "--precision", "fp8:expert=bf16")]
    [InlineData("--device is cpu or cuda:N", "train", "--device", "gpu")]
    [InlineData("cuda:99 is not to be had", "train", "--device", "cuda:99")]
    [InlineData("with --cluster, each silo has its own --device", "train", "--cluster", "lab", "--device", "cpu")]
    [InlineData("Krewe:Device is 'cpu,gpu'", "silo", "--cluster", "lab", "--device", "cpu,gpu")]
    [InlineData("would be the second device of a silo", "silo", "--cluster", "lab", "--name", "a:1")]
    [InlineData("give --silos 1", "generate", "--preset", "tiny", "--prompt", "x", "--device", "cpu,cpu")]
    [InlineData("cuda:99 is not to be had", "silo", "--cluster", "lab", "--device", "cuda:99")]
    [InlineData("dualpipe needs an even number of ranks, not 3", "train", "--schedule", "dualpipe", "--ranks", "3")]
    [InlineData("needs at least 8 micro-batches", "train", "--schedule", "dualpipe", "--ranks", "4", "--micro-batches", "4", "--batch", "4")]
    [InlineData("8 stages do not fit 4 layers", "train", "--schedule", "dualpipe", "--ranks", "8")]
    [InlineData("give an even number", "train", "--schedule", "dualpipev", "--stages", "3")]
    [InlineData("contradict each other", "train", "--ranks", "2", "--stages", "3")]
    [InlineData("671b needs", "train", "--preset", "671b")]
    [InlineData("9 stages do not fit", "train", "--stages", "9")]
    [InlineData("no checkpoint to resume", "train", "--resume")]
    [InlineData("cannot name a run", "train", "--run", "a/b")]
    [InlineData("no such folder", "generate", "nowhere", "--prompt", "x")]
    [InlineData("--prompt", "generate", "nowhere")]
    [InlineData("--preset", "generate", "--prompt", "x")]
    [InlineData("two models", "generate", "nowhere", "--preset", "tiny", "--prompt", "x")]
    [InlineData("exclude each other", "generate", "nowhere", "--prompts", "y", "--prompt", "x")]
    [InlineData("no such file", "generate", "--preset", "tiny", "--prompts", "nothing.txt")]
    [InlineData("known: tiny", "generate", "--preset", "huge", "--prompt", "x")]
    [InlineData("--batch", "generate", "--preset", "tiny", "--prompt", "x", "--batch", "0")]
    [InlineData("argument 'SILO' missing", "drain")]
    [InlineData("--deadline must be at least 1", "drain", "a", "--deadline", "0")]
    [InlineData("name", "drain", "a", "--cluster", "a/b")]
    [InlineData("no tokenizer", "tokenize", "--tokenizer", "nowhere.json")]
    [InlineData("standard input", "tokenize", "--tokenizer", "bytes", "--json")]
    public async Task Usage_is_checked(string says, params string[] args)
    {
        using var checkpoint = new SmallCheckpoint();
        await RefusesAsync(
            checkpoint, says, args[0] == "train" ? [.. args, "--output", checkpoint["run"]] : args);
    }

    [Fact]
    public async Task Texts_without_texts_are_refused()
    {
        using var checkpoint = new SmallCheckpoint();
        string texts = checkpoint["texts.json"];
        foreach ((string json, string says) in new[] { ("[]", "no texts"), ("[1]", "entry 0"), ("{", "JSON array of texts") })
        {
            await File.WriteAllTextAsync(texts, json);
            await RefusesAsync(checkpoint, says, ["eval", checkpoint.Path, "--texts", texts]);
        }
    }

    [Fact]
    public async Task The_process_itself_says_one_line()
    {
        Outcome outcome = await KreweProgram.ExecuteAsync(["eval", "nowhere", "--texts", "x.json"]);
        Assert.Equal(2, outcome.Code);
        Assert.StartsWith("krewe: nowhere: no such folder", Assert.Single(outcome.ErrorLines), StringComparison.Ordinal);
        Assert.Empty(outcome.Out);
    }

    private static async Task RefusesAsync(SmallCheckpoint checkpoint, string says, string[] args)
    {
        string[] before = checkpoint.Listing();

        Outcome outcome = await KreweProgram.RunAsync(args);

        string line = Assert.Single(outcome.ErrorLines);
        Assert.StartsWith("krewe: ", line, StringComparison.Ordinal);
        Assert.Contains(says, line, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", outcome.Error, StringComparison.Ordinal);
        Assert.Equal(2, outcome.Code);
        Assert.Equal(before, checkpoint.Listing());
    }

    private static JsonObject Entry(JsonObject header, int index) =>
        header.Where(pair => pair.Key != "__metadata__").ElementAt(index).Value!.AsObject();

    private static JsonArray Offsets(JsonObject header, int index) => Entry(header, index)["data_offsets"]!.AsArray();
}
