using System.Text.Json.Nodes;
using Krewe.Model.Checkpoints;
using Krewe.Model.Configuration;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Checkpoints;

public sealed class CheckpointReaderTests
{
    private static string Fp8Folder => Path.Combine(TestData.GoldenFolder, "base_fp8");

    [Fact]
    public void Fp8_weights_are_codes_times_block_scales()
    {
        using CheckpointReader reader = CheckpointReader.Open(Fp8Folder);
        using SafetensorsFile file = SafetensorsFile.Open(Path.Combine(Fp8Folder, "model.safetensors"));
        foreach (SafetensorsTensor tensor in file.Tensors.Where(tensor => tensor.StoredType == "F8_E4M3"))
        {
            float[] values = reader.ReadFloat32(tensor.Name);
            float[] scales = file.ReadFloat32(DeepSeekNames.ScaleOf(tensor.Name));
            byte[] codes = file.ReadArray<byte>(tensor.Name);
            int columns = tensor.Shape.Columns;
            int tiles = TileQuantization.TileCount(columns);
            for (int i = 0; i < codes.Length; i++)
            {
                float scale = scales[(i / columns / 128 * tiles) + (i % columns / 128)];
                Assert.True(Float8Format.DecodeE4M3(codes[i]) * scale == values[i], $"{tensor.Name}[{i}]");
            }
        }
    }

    [Fact]
    public void Fp8_weights_are_near_the_float32_ones()
    {
        string? shared = TestData.SharedFolder();
        Assert.SkipWhen(shared is null, "the folder 'shared' is not beside the repository; set KREWE_SHARED");
        using CheckpointReader quantised = CheckpointReader.Open(Fp8Folder);
        using CheckpointReader plain = CheckpointReader.Open(Path.Combine(shared!, "golden", "base"));
        foreach (string name in plain.Tensors)
        {
            float[] expected = plain.ReadFloat32(name);
            float[] actual = quantised.ReadFloat32(name);
            float largest = expected.Max(Math.Abs);
            float error = actual.Zip(expected, (left, right) => Math.Abs(left - right)).Max();
            Assert.True(error <= largest / 16, $"{name}: {error} of {largest}");
        }
    }

    [Fact]
    public void A_scale_may_lie_in_another_shard()
    {
        using TemporaryFolder folder = new();
        using CheckpointReader whole = CheckpointReader.Open(Fp8Folder);
        using SafetensorsFile file = SafetensorsFile.Open(Path.Combine(Fp8Folder, "model.safetensors"));
        File.Copy(Path.Combine(Fp8Folder, "config.json"), folder["config.json"]);
        SplitScales(file, folder);
        using CheckpointReader split = CheckpointReader.Open(folder.Path);
        Assert.Empty(split.CheckUp(split.Config).Unexpected);
        Assert.All(whole.Tensors, name => Assert.Equal(Plain(whole, name), Plain(split, name)));
    }

    [Fact]
    public void Bf16_shards_are_read()
    {
        string? shared = TestData.SharedFolder();
        Assert.SkipWhen(shared is null, "the folder 'shared' is not beside the repository; set KREWE_SHARED");
        using CheckpointReader reader = CheckpointReader.Open(Path.Combine(shared!, "checkpoints", "docs-26m"));
        Assert.Equal("BF16", reader.Describe(DeepSeekNames.LmHead).StoredType);
        Assert.Equal("F32", reader.Describe(DeepSeekNames.Layer(1).ScoreCorrectionBias).StoredType);
        // This one was saved without MTP's copies of embedding and head.
        Assert.False(reader.Contains(DeepSeekNames.Layer(6).SharedHeadHead));
        Assert.Empty(reader.CheckUp(reader.Config).Missing);
        Assert.InRange(reader.ReadFloat32(DeepSeekNames.Norm).Average(), 0.01, 100);
    }

    [Fact]
    public void Half_precision_and_e5m2_are_read()
    {
        using TemporaryFolder folder = new();
        (TinyCheckpoint.Config with { QuantizationConfig = new() { WeightBlockSize = [1, 2] } }).Save(folder.Path);
        SafetensorsEntry[] entries =
        [
            new("q.weight_scale_inv", DType.Float32, new(1, 2)), new("h", DType.Float16, new(2)),
            new("q.weight", DType.Float8E5M2, new(1, 3)), new("lost", DType.Float8E5M2, new(1)),
        ];
        using (SafetensorsWriter writer = SafetensorsWriter.Create(folder["model.safetensors"], entries))
        {
            writer.Append("q.weight_scale_inv", [0, 0, 128, 63, 0, 0, 0, 64]);
            writer.Append("h", [0, 0x3C, 0, 0xC0]);
            writer.Append("q.weight", [0x3C, 0x40, 0x3C]);
            writer.Append("lost", [0x3C]);
            writer.Finish();
        }

        using CheckpointReader reader = CheckpointReader.Open(folder.Path);
        Assert.Equal([1f, -2f], reader.ReadFloat32("h"));
        Assert.Equal([1f, 2f, 2f], reader.ReadFloat32("q.weight"));
        Assert.Contains("without its 'lost_scale_inv'", Assert.Throws<KreweException>(() => reader.ReadFloat32("lost")).Message);
        Assert.Throws<ArgumentException>(() => reader.ReadFloat32("h", new float[3]));
        Assert.Contains("no tensor 'x'", Assert.Throws<KreweException>(() => reader.ReadFloat32("x")).Message);
    }

    [Fact]
    public void CheckUp_lists_what_is_missing_wrong_and_unexpected()
    {
        using CheckpointReader reader = CheckpointReader.Open(Fp8Folder);
        ModelConfig other = reader.Config with { VocabSize = 322, NRoutedExperts = 24 };
        CheckpointFindings findings = reader.Inspect(other);
        Assert.Equal(3 * 8 * 3, findings.Missing.Count);
        Assert.Contains("'lm_head.weight' is [320, 128], the config asks for [322, 128]", findings.Faults);
        Assert.Equal(2 * 2 + (3 * 2), findings.Faults.Count);
        KreweException exception = Assert.Throws<KreweException>(() => reader.CheckUp(other));
        Assert.Contains("72 tensors are missing", exception.Message);
        Assert.Contains("and 69 more", exception.Message);
        Assert.DoesNotContain("\n", exception.Message);

        ModelConfig shorter = reader.Config with { NumNextnPredictLayers = 0 };
        Assert.All(reader.CheckUp(shorter).Unexpected, name => Assert.StartsWith("model.layers.3.", name));
        KreweException mtp = Assert.Throws<KreweException>(() => reader.CheckUp(reader.Config with { NumNextnPredictLayers = 2 }));
        Assert.Contains("set num_nextn_predict_layers to 0", mtp.Message);
    }

    [Fact]
    public void Missing_files_give_one_line()
    {
        using TemporaryFolder folder = new();
        AssertFails(folder["none"], "no such folder");
        AssertFails(folder.Path, "config.json: no such file");
        TinyCheckpoint.Config.Save(folder.Path);
        AssertFails(folder.Path, "neither model.safetensors nor model.safetensors.index.json");
        foreach ((string index, string expected) in new[]
        {
            ("{", "not valid JSON"),
            ("{}", "no weight_map"),
            ("""{"weight_map":{"a":3}}""", "must name one file of this folder"),
            ("""{"weight_map":{"a":"../b.safetensors"}}""", "must name one file of this folder"),
            ("""{"weight_map":{"a":"b.safetensors"}}""", "b.safetensors: no such file"),
        })
        {
            File.WriteAllText(folder["model.safetensors.index.json"], index);
            AssertFails(folder.Path, expected);
        }
    }

    [Fact]
    public void An_index_of_another_save_gives_one_line()
    {
        using TemporaryFolder folder = new();
        TinyCheckpoint.Write(folder["a"], new() { MaxShardBytes = 100_000 });
        string path = folder["a/model.safetensors.index.json"];
        JsonObject index = JsonNode.Parse(File.ReadAllText(path))!.AsObject();
        index["weight_map"]![DeepSeekNames.EmbedTokens] = (string)index["weight_map"]![DeepSeekNames.LmHead]!;
        File.WriteAllText(path, index.ToJsonString());
        AssertFails(folder["a"], "which lacks it");
    }

    private static float[] Plain(CheckpointReader reader, string name) =>
        reader.Describe(name).StoredType is "F8_E4M3" or "F32" ? reader.ReadFloat32(name) : [];

    private static void SplitScales(SafetensorsFile file, TemporaryFolder folder)
    {
        JsonObject map = [];
        foreach (bool scales in (bool[])[true, false])
        {
            string shard = scales ? "model-00001-of-00002.safetensors" : "model-00002-of-00002.safetensors";
            SafetensorsTensor[] part = [.. file.Tensors.Where(tensor => tensor.Name.EndsWith("_scale_inv") == scales)];
            using SafetensorsWriter writer = SafetensorsWriter.Create(
                folder[shard], [.. part.Select(tensor => new SafetensorsEntry(tensor.Name, tensor.DType, tensor.Shape))]);
            foreach (SafetensorsTensor tensor in part)
            {
                writer.Append(tensor.Name, file.Bytes(tensor));
                map[tensor.Name] = shard;
            }

            writer.Finish();
        }

        File.WriteAllText(folder["model.safetensors.index.json"], new JsonObject { ["weight_map"] = map }.ToJsonString());
    }

    private static void AssertFails(string folder, string expected)
    {
        KreweException exception = Assert.Throws<KreweException>(() => CheckpointReader.Open(folder).Dispose());
        Assert.Contains(expected, exception.Message);
        Assert.DoesNotContain("\n", exception.Message);
    }
}
