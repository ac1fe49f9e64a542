using Krewe.Model.Checkpoints;
using Krewe.Model.Configuration;
using Krewe.Model.Evaluation;
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
    public async Task Model_matches_the_reference(string name, int stages)
    {
        string folder = Golden(name);
        ModelConfig config = ModelConfig.Load(folder);
        using var device = new ReferenceDevice();
        using SafetensorsFile weights = SafetensorsFile.Open(Path.Combine(folder, "model.safetensors"));
        using SafetensorsFile reference = SafetensorsFile.Open(Path.Combine(folder, "reference.safetensors"));
        using var model = new LocalModel(config, device, new FileSource(weights), stages, config.MaxPositionEmbeddings);
        await model.PrepareForTrainingAsync(DType.Float32);

        CheckReport report = await ReferenceCheck.RunAsync(model, config, reference, gradients: true, new());

        foreach (CheckRow row in report.Rows.OrderByDescending(row => row.Difference / Math.Max(row.Limit, 1e-12)).Take(12))
        {
            output.WriteLine($"{row.Name}: {row.Measure} {row.Difference:E2} (limit {row.Limit:E0})");
        }

        Assert.True(report.Passed, string.Join("; ", report.Rows.Where(row => !row.Passed).Take(5)));
        Assert.True(report.ExpertChoicesEqual);
        Assert.NotNull(report.GradientsMaxRelative);
    }

    private static string Golden(string name)
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
