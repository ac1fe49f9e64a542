using System.Text.Json.Nodes;
using Krewe.Silo.Hosting;
using Xunit;

namespace Krewe.Silo.Tests.Commands;

/// <summary>Silos with several devices on the command line.</summary>
public class PlacesCommandTests
{
    [Theory]
    [InlineData(1, 1, "1")]
    [InlineData(1, 3, "3")]
    [InlineData(2, 2, "1 1")]
    [InlineData(3, 2, "1 1 1")]
    [InlineData(2, 4, "2 2")]
    [InlineData(3, 7, "2 2 3")]
    public void Devices_are_shared_out_to_silos(int silos, int devices, string shares) =>
        Assert.Equal(shares, string.Join(' ', ProcessDevices.Share(devices, silos)));

    /// <summary>Stage 0 on one device of the silo and stage 1 on the other, as on one device.</summary>
    [Fact]
    public async Task One_silo_trains_on_two_devices()
    {
        using var checkpoint = new SmallCheckpoint();
        string data = checkpoint["text.txt"];
        await File.WriteAllLinesAsync(data, Enumerable.Range(0, 3000).Select(i => $"Line {i * 7919 % 1000}."));
        string[] args =
        [
            "train", "--config", checkpoint.Path, "--data", data, "--output", checkpoint["run"], "--steps", "3",
            "--batch", "4", "--sequence-length", "32", "--no-checkpoint", "--evaluation-windows", "0", "--json",
            "--silos", "1", "--device",
        ];

        Outcome one = await KreweProgram.RunAsync([.. args, "cpu"]);
        Outcome two = await KreweProgram.RunAsync([.. args, "cpu,cpu"]);
        Outcome dual = await KreweProgram.RunAsync([.. args, "cpu,cpu", "--schedule", "dualpipe"]);

        Assert.Equal((0, 0, 0), (one.Code, two.Code, dual.Code));
        Assert.Equal(Losses(one), Losses(two));
        Assert.Equal(["silo-0"], ExpertsOf(one).Select(place => place.Key));
        Assert.Equal([("silo-0", 8), ("silo-0:1", 8)], ExpertsOf(two).Select(place => (place.Key, (int)place.Value!)));
        Assert.Equal(["silo-0", "silo-0:1"], ExpertsOf(dual).Select(place => place.Key));
    }

    [Theory]
    [InlineData("1", "cpu,cpu")]
    [InlineData("2", "cpu,cpu,cpu,cpu")]
    public async Task A_text_is_the_same_on_several_devices_of_a_silo(string silos, string devices)
    {
        using var checkpoint = new SmallCheckpoint();
        string[] args =
            ["generate", checkpoint.Path, "--prompt", "Hello", "--max-tokens", "12", "--ignore-eos", "--json"];

        Outcome local = await KreweProgram.RunAsync(args);
        Outcome spread = await KreweProgram.RunAsync([.. args, "--silos", silos, "--stages", "2", "--device", devices]);

        Assert.Equal((0, 0), (local.Code, spread.Code));
        Assert.Equal(TokensOf(local), TokensOf(spread));
    }

    private static string TokensOf(Outcome outcome) => JsonNode.Parse(outcome.Out)!["tokens"]!.ToJsonString();

    private static JsonObject ExpertsOf(Outcome outcome) => Events(outcome)[0]["experts_of_silo"]!.AsObject();

    private static double[] Losses(Outcome outcome) =>
        [.. Events(outcome).Where(e => (string)e["event"]! == "step").Select(e => (double)e["loss"]!)];

    private static JsonNode[] Events(Outcome outcome) =>
        [.. outcome.Out.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonNode.Parse(line)!)];
}
