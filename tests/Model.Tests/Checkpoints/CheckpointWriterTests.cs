using Krewe.Model.Checkpoints;
using Krewe.Model.Configuration;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Checkpoints;

public sealed class CheckpointWriterTests
{
    private static readonly TensorSpec[] _specs = [.. DeepSeekNames.Enumerate(TinyCheckpoint.Config)];

    [Fact]
    public void Float32_survives_to_the_bit_in_one_file()
    {
        using TemporaryFolder folder = new();
        TinyCheckpoint.Write(folder["m"], new() { DType = DType.Float32 });
        Assert.Equal(["config.json", "model.safetensors"], Names(folder["m"]));
        Assert.Equal(0, TinyCheckpoint.SeedOf(folder["m"]));
        using CheckpointReader reader = CheckpointReader.Open(folder["m"]);
        Assert.Equal(TinyCheckpoint.Config with { TorchDtype = "float32" }, reader.Config);
        LayerNames mtp = DeepSeekNames.Layer(2);
        Assert.Equal(reader.ReadFloat32(DeepSeekNames.EmbedTokens), reader.ReadFloat32(mtp.EmbedTokens));
        Assert.Equal(reader.ReadFloat32(DeepSeekNames.LmHead), reader.ReadFloat32(mtp.SharedHeadHead));
        Assert.Equal([folder["m"]], Directory.GetFileSystemEntries(folder.Path));
    }

    [Fact]
    public void Bf16_rounds_everything_but_the_routing_bias()
    {
        using TemporaryFolder folder = new();
        TinyCheckpoint.Write(folder["m"], new() { WriteDuplicates = false });
        using CheckpointReader reader = CheckpointReader.Open(folder["m"]);
        Assert.Empty(reader.CheckUp(TinyCheckpoint.Config).Unexpected);
        Assert.False(reader.Contains(DeepSeekNames.Layer(2).EmbedTokens));
        foreach (TensorSpec spec in _specs.Where(spec => spec.Source is null))
        {
            bool isBias = spec.Role == TensorRole.RouterBias;
            float[] values = TinyCheckpoint.Values(spec);
            Assert.Equal(isBias ? "F32" : "BF16", reader.Describe(spec.Name).StoredType);
            Assert.Equal(isBias ? values : values.Select(BFloat16Format.Round), reader.ReadFloat32(spec.Name));
        }
    }

    [Fact]
    public void Shards_keep_to_their_size_and_align_every_tensor()
    {
        using TemporaryFolder folder = new();
        TinyCheckpoint.Write(folder["m"], new() { MaxShardBytes = 90_000, Fp8 = true });
        string[] shards = [.. Names(folder["m"]).Where(name => name.EndsWith(".safetensors"))];
        Assert.InRange(shards.Length, 3, 20);
        Assert.Equal($"model-00001-of-{shards.Length:D5}.safetensors", shards[0]);
        foreach (string shard in shards)
        {
            using SafetensorsFile file = SafetensorsFile.Open(folder["m/" + shard]);
            Assert.True(file.Tensors.Count == 1 || file.Tensors.Sum(tensor => tensor.ByteCount) <= 90_000);
            Assert.All(file.Tensors, tensor => Assert.Equal(0, tensor.Offset % tensor.DType.SizeInBytes()));
        }

        using CheckpointReader reader = CheckpointReader.Open(folder["m"]);
        Assert.Empty(reader.CheckUp(TinyCheckpoint.Config).Unexpected);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Fp8_export_quantises_what_released_checkpoints_quantise(bool powerOfTwo)
    {
        using TemporaryFolder folder = new();
        TinyCheckpoint.Write(folder["m"], new() { Fp8 = true, PowerOfTwoScales = powerOfTwo });
        using CheckpointReader reader = CheckpointReader.Open(folder["m"]);
        Assert.Equal(powerOfTwo ? "ue8m0" : null, reader.Config.QuantizationConfig!.ScaleFmt);
        foreach (TensorSpec spec in _specs.Where(spec => DeepSeekNames.IsReleasedFp8(spec.Name)))
        {
            (int rows, int columns) = (spec.Shape.Rows, spec.Shape.Columns);
            byte[] codes = new byte[rows * columns];
            float[] scales = new float[TileQuantization.TileCount(rows) * TileQuantization.TileCount(columns)];
            TileQuantization.QuantizeBlocks(TinyCheckpoint.Values(spec), rows, columns, codes, scales, powerOfTwo);
            Assert.Equal(scales, reader.ReadFloat32(DeepSeekNames.ScaleOf(spec.Name)));
            float[] expected = new float[codes.Length];
            TileQuantization.Dequantize(codes, scales, rows, columns, expected, Float8Format.E4M3Table);
            Assert.Equal(expected, reader.ReadFloat32(spec.Name));
        }

        Assert.Equal("BF16", reader.Describe(DeepSeekNames.Layer(2).EhProj).StoredType);
        TinyCheckpoint.Write(folder["m"]);
        Assert.Null(ModelConfig.Load(folder["m"]).QuantizationConfig);
    }

    [Fact]
    public void An_fp8_checkpoint_requantises_to_the_same_bytes()
    {
        using TemporaryFolder folder = new();
        using CheckpointReader golden = CheckpointReader.Open(Path.Combine(TestData.GoldenFolder, "base_fp8"));
        CheckpointWriter.Write(
            folder["m"], golden.Config, new() { Fp8 = true, DType = DType.Float32 },
            (spec, destination) => golden.ReadFloat32(spec.Name, destination));
        using CheckpointReader written = CheckpointReader.Open(folder["m"]);
        foreach (TensorSpec spec in DeepSeekNames.Enumerate(golden.Config))
        {
            Assert.Equal(golden.ReadFloat32(spec.Name), written.ReadFloat32(spec.Name));
        }
    }

    [Fact]
    public async Task Values_may_come_later_and_files_go_along()
    {
        using TemporaryFolder folder = new();
        File.WriteAllText(folder["tokenizer.json"], "{}");
        File.SetAttributes(folder["tokenizer.json"], FileAttributes.ReadOnly);
        CheckpointWriteOptions options = new()
        {
            DType = DType.Float32,
            ExtraFiles = [folder["tokenizer.json"]],
            AddFiles = (staging, cancellation) =>
                File.WriteAllTextAsync(Path.Combine(staging, "state.msgpack"), "x", cancellation),
        };
        List<string> asked = [];
        await CheckpointWriter.WriteAsync(folder["m"], TinyCheckpoint.Config, options, async (spec, cancellation) =>
        {
            await Task.Yield();
            asked.Add(spec.Name);
            return TinyCheckpoint.Values(spec);
        }, TestContext.Current.CancellationToken);
        Assert.Equal(_specs.Select(spec => spec.Source ?? spec.Name), asked);
        Assert.Equal(["config.json", "model.safetensors", "state.msgpack", "tokenizer.json"], Names(folder["m"]));
        Assert.Equal(0, TinyCheckpoint.SeedOf(folder["m"]));
    }

    [Fact]
    public void Bad_calls_fail_before_any_work()
    {
        using TemporaryFolder folder = new();
        void Refused(string expected, string name, ModelConfig? config = null, CheckpointWriteOptions? options = null)
        {
            KreweException exception = Assert.Throws<KreweException>(() => CheckpointWriter.Write(
                folder[name], config ?? TinyCheckpoint.Config, options ?? new(), (_, _) => Assert.Fail("asked for values")));
            Assert.Contains(expected, exception.Message);
            Assert.DoesNotContain("\n", exception.Message);
        }

        File.WriteAllText(folder["file"], "");
        Directory.CreateDirectory(folder["documents"]);
        File.WriteAllText(folder["documents/thesis.txt"], "years of work");
        Refused("hidden_act", "m", TinyCheckpoint.Config with { HiddenAct = "gelu" });
        Refused("no such file", "m", options: new() { ExtraFiles = [folder["none.json"]] });
        Refused("Float16", "m", options: new() { DType = DType.Float16 });
        Refused("give a positive size", "m", options: new() { MaxShardBytes = 0 });
        Refused("no checkpoint, and would be replaced", "documents");
        Refused("is a file", "file");
        Refused("cannot be written", "file/m");
        Assert.Equal(["documents", "file"], Names(folder.Path));
        Assert.True(File.Exists(folder["documents/thesis.txt"]));
    }

    [Fact]
    public void An_unwritable_place_gives_one_line()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "/proc is the folder that not even root writes into");
        KreweException exception = Assert.Throws<KreweException>(() => TinyCheckpoint.Write("/proc/krewe-model"));
        Assert.StartsWith("/proc/krewe-model: cannot be written", exception.Message);
        Assert.DoesNotContain("\n", exception.Message);
    }

    [Fact]
    public void A_source_that_fails_leaves_nothing_and_the_old_one_as_it_was()
    {
        using TemporaryFolder folder = new();
        void Fail(TensorSpec spec, Span<float> destination)
        {
            if (spec.Name == DeepSeekNames.LmHead)
            {
                throw new TimeoutException("a silo is gone");
            }
        }

        Assert.Throws<TimeoutException>(() => CheckpointWriter.Write(folder["m"], TinyCheckpoint.Config, new(), Fail));
        Assert.Empty(Directory.GetFileSystemEntries(folder.Path));
        TinyCheckpoint.Write(folder["m"], new() { DType = DType.Float32 });
        Assert.Throws<TimeoutException>(() => CheckpointWriter.Write(folder["m"], TinyCheckpoint.Config, new(), Fail));
        Assert.Equal(0, TinyCheckpoint.SeedOf(folder["m"]));
        Assert.Equal(["m"], Names(folder.Path));
    }

    [Fact]
    public async Task Values_of_another_length_are_refused()
    {
        using TemporaryFolder folder = new();
        ArgumentException exception = await Assert.ThrowsAsync<ArgumentException>(() => CheckpointWriter.WriteAsync(
            folder["m"], TinyCheckpoint.Config, new(), (_, _) => new(new float[3]), TestContext.Current.CancellationToken));
        Assert.Contains("42240 values wanted, 3 given", exception.Message);
        Assert.Empty(Names(folder.Path));
    }

    private static string[] Names(string folder) =>
        [.. Directory.GetFileSystemEntries(folder).Select(entry => Path.GetFileName(entry)).Order(StringComparer.Ordinal)];
}
