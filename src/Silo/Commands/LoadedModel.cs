using Krewe.Model.Checkpoints;
using Krewe.Model.Generation;
using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Tensors;
using Krewe.Model.Training;

namespace Krewe.Silo.Commands;

/// <summary>How a model is loaded.</summary>
/// <param name="Silos">Silos of an embedded cluster, or 0 for none.</param>
/// <param name="Stages">Pipeline stages.</param>
/// <param name="CpuThreads">Computing threads.</param>
/// <param name="MaxPositions">Longest sequence, in tokens.</param>
/// <param name="Training">Also gradients and moments.</param>
/// <param name="Verbose">Cluster logs.</param>
internal sealed record LoadRequest(
    int Silos, int Stages, int CpuThreads, int MaxPositions, bool Training = false, bool Verbose = false);

/// <summary>A model in memory: on a device of this process, or as grains of an embedded cluster.</summary>
internal sealed class LoadedModel : IAsyncDisposable
{
    private readonly Stack<Func<ValueTask>> _owned = new();

    private LoadedModel()
    {
    }

    /// <summary>Forward, backward and tensors by name.</summary>
    public IInspectable Model { get; private set; } = null!;

    /// <summary>The model where there is no cluster.</summary>
    public LocalModel? Local { get; private set; }

    /// <summary>Loads a checked folder.</summary>
    public static async Task<LoadedModel> OpenAsync(
        ModelFolder folder, LoadRequest request, CancellationToken cancellation)
    {
        var loaded = new LoadedModel();
        try
        {
            await loaded.LoadLocalAsync(folder, request, cancellation);
            return loaded;
        }
        catch
        {
            await loaded.DisposeAsync();
            throw;
        }
    }

    /// <summary>Generates tokens; see <see cref="Generation.RunAsync"/>.</summary>
    public IAsyncEnumerable<int> GenerateAsync(
        int[] prompt, int maxTokens, int[] stop, SamplingOptions sampling, bool useCache, CancellationToken cancellation) =>
        Generation.RunAsync(Local!, prompt, maxTokens, stop, sampling, useCache, cancellation);

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        while (_owned.TryPop(out Func<ValueTask>? dispose))
        {
            await dispose();
        }
    }

    private async Task LoadLocalAsync(ModelFolder folder, LoadRequest request, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        ComputePool pool = Own(new ComputePool(request.CpuThreads));
        CpuDevice device = Own(new CpuDevice(pool, "cpu"));
        Local = Own(new LocalModel(
            folder.Config, device, new CheckpointParameters(folder.Reader), request.Stages, request.MaxPositions));
        if (request.Training)
        {
            await Local.PrepareForTrainingAsync(DType.Float32);
        }

        Model = Local;
    }

    private T Own<T>(T resource) where T : IDisposable
    {
        _owned.Push(() =>
        {
            resource.Dispose();
            return ValueTask.CompletedTask;
        });
        return resource;
    }
}
