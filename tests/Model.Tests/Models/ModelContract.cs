using Krewe.Model.Configuration;
using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Krewe.Model.Training;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Models;

/// <summary>
/// What a whole model does on a device whose memory the host cannot reach, against the CPU. Bind it by deriving a class
/// that gives <see cref="Device"/>.
/// </summary>
public abstract partial class ModelContract(ITestOutputHelper output) : IDisposable
{
    private static readonly ModelConfig _tiny = ModelPresets.Get("tiny");

    /// <summary>Every token goes to every expert: near a tie rounding would choose another, and that is no rounding
    /// error.</summary>
    private static readonly ModelConfig _everywhere =
        _tiny with { NumExpertsPerTok = _tiny.NRoutedExperts, NGroup = 1, TopkGroup = 1 };

    private readonly ComputePool _pool = new(2);

    /// <summary>The device under test; disposed by who derives.</summary>
    protected abstract IDevice Device { get; }

    /// <inheritdoc/>
    public void Dispose()
    {
        DisposeDevice();
        _pool.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>Disposes the device where it is this test's own.</summary>
    protected virtual void DisposeDevice()
    {
    }

    private async Task<T> OnCpuAsync<T>(Func<IDevice, Task<T>> run)
    {
        using var cpu = new CpuDevice(_pool, "cpu:0");
        return await run(cpu);
    }

    private static async Task<T> WithModelAsync<T>(
        IDevice device, ModelConfig config, string precision, Func<LocalModel, Task<T>> use)
    {
        using LocalModel model = await LocalModel.LoadAsync(
            config, device, new SeededParameters(3, config.InitializerRange), stages: 2, maxPositions: 64,
            PrecisionRecipe.Get(precision));
        await model.PrepareForTrainingAsync(DType.Float32);
        return await use(model);
    }

    private static Task<Dictionary<string, float[]>> GradientsAsync(
        IDevice device, ModelConfig config, string precision, bool deferred = false) =>
        WithModelAsync(device, config, precision, model => ModelGradients.OfAsync(model, _batch, deferred));
}
