using Krewe.Model.Checkpoints;
using Krewe.Model.Configuration;
using Krewe.Model.Evaluation;
using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Kernels.Reference;
using Krewe.Model.Layers;
using Krewe.Model.Tensors;
using Krewe.Model.Training;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Evaluation;

public class ReferenceCheckTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData("base", 1)]
    [InlineData("base", 2)]
    [InlineData("yarn", 1)]
    [InlineData("mtp2", 2)]
    public Task The_large_references_are_reproduced(string name, int stages) =>
        CheckAsync(SharedGolden(name), stages, new ReferenceDevice());

    public static TheoryData<string> Cases =>
        [.. Directory.GetDirectories(Path.Combine(TestData.GoldenFolder, "cases")).Select(folder => Path.GetFileName(folder))];

    [Theory]
    [MemberData(nameof(Cases))]
    public Task Every_small_case_is_reproduced_by_the_scalar_kernels(string name) =>
        CheckAsync(Path.Combine(TestData.GoldenFolder, "cases", name), 1, new ReferenceDevice());

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Every_small_case_is_reproduced_by_the_fast_kernels(string name)
    {
        using var pool = new ComputePool(2);
        await CheckAsync(Path.Combine(TestData.GoldenFolder, "cases", name), 1, new CpuDevice(pool, "cpu:0"));
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Every_small_case_is_reproduced_in_memory_that_the_host_cannot_reach(string name)
    {
        using var pool = new ComputePool(2);
        await CheckAsync(
            Path.Combine(TestData.GoldenFolder, "cases", name), 1, new SeparateMemoryDevice(new CpuDevice(pool, "cpu:0")));
    }

    [Fact]
    public async Task A_changed_weight_fails_the_check()
    {
        string folder = Path.Combine(TestData.GoldenFolder, "cases", "v3_all_moe");
        ModelConfig config = ModelConfig.Load(folder);
        using var device = new ReferenceDevice();
        using SafetensorsFile weights = SafetensorsFile.Open(Path.Combine(folder, "model.safetensors"));
        using SafetensorsFile reference = SafetensorsFile.Open(Path.Combine(folder, "reference.safetensors"));
        using LocalModel model = await LocalModel.LoadAsync(
            config, device, new FileSource(weights), 1, config.MaxPositionEmbeddings);
        await model.PrepareForTrainingAsync(DType.Float32);
        model.Find("model.layers.1.mlp.experts.3.up_proj.weight").Value.AsSpan<float>()[5] += 0.1f;

        CheckReport report = await ReferenceCheck.RunAsync(model, config, reference, gradients: true, new());

        Assert.False(report.Passed);
        Assert.True(report.LogitsMaxAbs > 2e-4);
    }

    [Fact]
    public async Task Tokens_that_choose_other_experts_are_told_apart_from_the_rest()
    {
        string folder = Path.Combine(TestData.GoldenFolder, "cases", "v3_all_moe");
        ModelConfig config = ModelConfig.Load(folder);
        using var device = new ReferenceDevice();
        using SafetensorsFile weights = SafetensorsFile.Open(Path.Combine(folder, "model.safetensors"));
        using SafetensorsFile reference = SafetensorsFile.Open(Path.Combine(folder, "reference.safetensors"));
        using LocalModel model = await LocalModel.LoadAsync(
            config, device, new FileSource(weights), 1, config.MaxPositionEmbeddings);
        await model.PrepareForTrainingAsync(DType.Float32);
        // The last layer's gate likes one expert a little more: tokens near a tie go there, no other token sees it.
        int last = config.NumHiddenLayers - 1;
        model.Stages[0].Biases[last].AsSpan<float>()[2] += 0.02f;

        CheckReport report = await ReferenceCheck.RunAsync(model, config, reference, gradients: false, new());

        Assert.False(report.ExpertChoicesEqual);
        Assert.InRange(report.OtherChoices, 1, reference.ReadArray<long>("input_ids").Length - 1);
        Assert.InRange(report.LogitsMaxAbsSameChoices!.Value, 0, 2e-4);
        Assert.True(report.LogitsMaxAbs > 2e-4);
    }

    private async Task CheckAsync(string folder, int stages, IDevice device)
    {
        using IDevice owned = device;
        ModelConfig config = ModelConfig.Load(folder);
        using SafetensorsFile weights = SafetensorsFile.Open(Path.Combine(folder, "model.safetensors"));
        using SafetensorsFile reference = SafetensorsFile.Open(Path.Combine(folder, "reference.safetensors"));
        using LocalModel model = await LocalModel.LoadAsync(
            config, device, new FileSource(weights), stages, config.MaxPositionEmbeddings);
        await model.PrepareForTrainingAsync(DType.Float32);

        CheckReport report = await ReferenceCheck.RunAsync(model, config, reference, gradients: true, new());

        foreach (CheckRow row in report.Rows.OrderByDescending(row => row.Difference / Math.Max(row.Limit, 1e-12)).Take(5))
        {
            output.WriteLine($"{row.Name}: {row.Measure} {row.Difference:E2} (limit {row.Limit:E0})");
        }

        Assert.True(report.Passed, string.Join("; ", report.Rows.Where(row => !row.Passed).Take(5)));
        Assert.True(report.ExpertChoicesEqual);
        Assert.NotNull(report.GradientsMaxRelative);
    }

    private static string SharedGolden(string name)
    {
        string? shared = TestData.SharedFolder();
        Assert.SkipWhen(shared is null, "the shared reference data is not beside the repository");
        return Path.Combine(shared!, "golden", name);
    }

    private sealed class FileSource(SafetensorsFile file) : IParameterSource
    {
        public void Read(string name, TensorShape shape, Span<float> destination) =>
            file.ReadFloat32(name).CopyTo(destination);
    }
}
