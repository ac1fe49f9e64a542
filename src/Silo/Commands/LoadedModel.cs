using System.Runtime.CompilerServices;
using Krewe.Grains.Interfaces;
using Krewe.Grains.Interfaces.Serving;
using Krewe.Grains.Training;
using Krewe.Model;
using Krewe.Model.Generation;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Krewe.Model.Training;
using Krewe.Silo.Hosting;

namespace Krewe.Silo.Commands;

/// <summary>How a model is loaded.</summary>
/// <param name="Silos">Silos of an embedded cluster, or 0 for none.</param>
/// <param name="Stages">Pipeline stages.</param>
/// <param name="CpuThreads">Computing threads.</param>
/// <param name="MaxPositions">Longest sequence, in tokens.</param>
/// <param name="Training">Also gradients and moments.</param>
/// <param name="Verbose">Cluster logs.</param>
/// <param name="Precision">Name of the precision recipe.</param>
/// <param name="Devices">What computes; the CPU where left out.</param>
internal sealed record LoadRequest(
    int Silos, int Stages, int CpuThreads, int MaxPositions, bool Training = false, bool Verbose = false,
    string Precision = "fp32", DeviceName[]? Devices = null)
{
    /// <summary>What computes.</summary>
    public IReadOnlyList<DeviceName> DevicesOrCpu => Devices ?? [DeviceName.Cpu];
}

/// <summary>A model in memory: on a device of this process, or as grains of an embedded cluster.</summary>
internal sealed class LoadedModel : IAsyncDisposable
{
    private const string ClusterName = "model";

    private readonly Stack<Func<ValueTask>> _owned = new();
    private LocalModel? _local;
    private IGenerationGrain? _generation;

    private LoadedModel()
    {
    }

    /// <summary>Forward, backward and tensors by name.</summary>
    public IInspectable Model { get; private set; } = null!;

    /// <summary>Loads a model.</summary>
    public static async Task<LoadedModel> OpenAsync(
        ModelOrigin origin, LoadRequest request, CancellationToken cancellation)
    {
        var loaded = new LoadedModel();
        try
        {
            cancellation.ThrowIfCancellationRequested();
            await (request.Silos > 0
                ? loaded.LoadClusterAsync(origin, request, cancellation)
                : loaded.LoadLocalAsync(origin, request));
            return loaded;
        }
        catch
        {
            await loaded.DisposeAsync();
            throw;
        }
    }

    /// <summary>Generates the sequences of a batch together; an element is what one step gave.</summary>
    /// <param name="requests">Prompts and how to go on.</param>
    /// <param name="cancellation">Ends between two steps.</param>
    public IAsyncEnumerable<GeneratedToken[]> GenerateAsync(GenerationRequest[] requests, CancellationToken cancellation) =>
        _local is { } model
            ? BatchGenerator.RunAsync(
                new LocalDecoder(model), [.. requests.Select(request => request.ToContinuation())],
                requests.All(request => request.UseCache), cancellation)
            : TokensAsync(_generation!, requests, cancellation);

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        while (_owned.TryPop(out Func<ValueTask>? dispose))
        {
            await dispose();
        }
    }

    private static async IAsyncEnumerable<GeneratedToken[]> TokensAsync(
        IGenerationGrain grain, GenerationRequest[] requests, [EnumeratorCancellation] CancellationToken cancellation)
    {
        await foreach (TokenUpdate[] step in grain.GenerateBatchAsync(requests, cancellation).WithCancellation(cancellation))
        {
            yield return Array.ConvertAll(
                step, update => new GeneratedToken(update.Sequence, update.Token, update.Index, update.Finish));
        }
    }

    private async Task LoadLocalAsync(ModelOrigin origin, LoadRequest request)
    {
        if (request.DevicesOrCpu.Count > 1)
        {
            throw new KreweException(
                "several devices need a cluster: give --silos 1 for one silo with all of them, or more to share them");
        }

        ProcessDevices devices = Own(new ProcessDevices(request.DevicesOrCpu, request.CpuThreads));
        IDevice device = Own(devices.Open(0));
        PrecisionRecipe recipe = PrecisionRecipe.Get(request.Precision);
        _local = Own(await LocalModel.LoadAsync(
            origin.Config, device, origin.Parameters(), request.Stages, request.MaxPositions,
            request.Training ? recipe : recipe.ForInference()));
        if (request.Training)
        {
            await _local.PrepareForTrainingAsync(DType.Float32);
        }

        Model = _local;
    }

    private async Task LoadClusterAsync(ModelOrigin origin, LoadRequest request, CancellationToken cancellation)
    {
        var options = new EmbeddedClusterOptions
        {
            Silos = request.Silos,
            CpuThreads = request.CpuThreads,
            Devices = request.DevicesOrCpu,
            Verbose = request.Verbose,
        };
        EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(options, cancellation);
        _owned.Push(cluster.DisposeAsync);
        var source = new ModelSource
        {
            ConfigJson = origin.Config.ToJson(),
            Checkpoint = origin.Checkpoint is { } checkpoint ? Path.GetFullPath(checkpoint.Folder) : null,
            Seed = origin.Seed,
            Training = request.Training,
            MaxPositions = request.MaxPositions,
            Precision = request.Precision,
        };
        ClusterModel model = await ClusterModel.CreateAsync(
            cluster.Grains, ClusterName, source, cluster.PlaceNames, request.Stages);
        _owned.Push(model.DisposeAsync);
        _generation = cluster.Grains.GetGrain<IGenerationGrain>(ClusterName);
        Model = model;
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
