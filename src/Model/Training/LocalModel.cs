using Krewe.Model.Balancing;
using Krewe.Model.Configuration;
using Krewe.Model.Kernels;
using Krewe.Model.Layers;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Training;

/// <summary>
/// A whole model on one device without a cluster: the same stages, experts and loop, called directly. The yardstick
/// that the cluster is measured against, in bits and in speed.
/// </summary>
public sealed class LocalModel : IInspectable, IExpertFleet, IDisposable
{
    private readonly IDevice _device;
    private readonly ExpertTopology? _topology;
    private readonly Dictionary<int, Expert[]> _experts = [];
    private readonly LocalExpertHost _host;
    private readonly TokenEmbedding _embedding;
    private readonly OutputHead _head;

    private LocalModel(ModelConfig config, IDevice device, int stages, int maxPositions, PrecisionRecipe? recipe)
    {
        Config = config;
        _device = device;
        _topology = config.NRoutedExperts > 0 ? ExpertTopology.SingleHost(config) : null;
        _host = new(device, layer => _experts[layer]);
        Stages = [.. StageRange.Partition(config, stages)
            .Select(range => new ModelStage(config, range, device, this, maxPositions, recipe))];
        Stages[0].Embedding = _embedding = new(config, device);
        Last.Head = _head = new(config, device, recipe);
        foreach (int layer in Stages.SelectMany(stage => stage.MoeLayers))
        {
            _experts[layer] = [.. Enumerable.Range(0, config.NRoutedExperts)
                .Select(index => new Expert(config, device, layer, index, recipe))];
        }

        Hosts = [_host];
    }

    /// <summary>Allocates a model and reads its parameters.</summary>
    /// <param name="config">The model.</param>
    /// <param name="device">Where everything lives.</param>
    /// <param name="source">Where the values come from.</param>
    /// <param name="stages">Number of pipeline stages, run one after the other.</param>
    /// <param name="maxPositions">Longest sequence, in tokens.</param>
    /// <param name="recipe">What its products run in; float32 where left out.</param>
    public static async Task<LocalModel> LoadAsync(
        ModelConfig config, IDevice device, IParameterSource source, int stages, int maxPositions,
        PrecisionRecipe? recipe = null)
    {
        var model = new LocalModel(config, device, stages, maxPositions, recipe);
        try
        {
            await device.SubmitAsync(kernels => model.Read(kernels, source));
            return model;
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    /// <summary>The model.</summary>
    public ModelConfig Config { get; }

    /// <summary>The stages in order.</summary>
    public IReadOnlyList<ModelStage> Stages { get; }

    /// <summary>The last stage.</summary>
    public ModelStage Last => Stages[^1];

    /// <inheritdoc/>
    public IReadOnlyList<IExpertHost> Hosts { get; }

    /// <summary>Every parameter set: stages with embedding and head, then experts by layer and index.</summary>
    public IEnumerable<ParameterSet> ParameterSets => Stages.SelectMany(stage => stage.ParameterSets)
        .Concat(_experts.OrderBy(layer => layer.Key).SelectMany(layer => layer.Value.Select(e => e.Parameters)));

    /// <inheritdoc/>
    public ExpertTopology TopologyOf(int layer) => _topology!;

    /// <inheritdoc/>
    public void Count(int layer, ReadOnlySpan<int> load)
    {
        // Nobody here keeps counters of experts.
    }

    /// <summary>The parameter of that name.</summary>
    /// <exception cref="KeyNotFoundException">The model has no such parameter.</exception>
    public Parameter Find(string name) => ParameterSets.Select(set => set.Find(name)).FirstOrDefault(p => p is not null)
        ?? throw new KeyNotFoundException($"the model has no parameter '{name}'");

    /// <summary>Allocates gradients and moments.</summary>
    public Task PrepareForTrainingAsync(DType momentType) => _device.SubmitAsync(kernels =>
    {
        foreach (ParameterSet set in ParameterSets)
        {
            set.PrepareForTraining(kernels, momentType);
        }
    });

    /// <inheritdoc/>
    public async Task<IReadOnlyList<MicroBatchReport>> RunStepAsync(
        long step, IReadOnlyList<MicroBatch> batch, ForwardOptions options)
    {
        var reports = new List<MicroBatchReport>(batch.Count);
        for (int slot = 0; slot < batch.Count; slot++)
        {
            reports.Add(await RunAsync(slot, step, batch[slot], options));
        }

        return reports;
    }

    /// <inheritdoc/>
    public async Task<MicroBatchReport> RunAsync(long slot, long step, MicroBatch batch, ForwardOptions options)
    {
        StageActivations activations = default;
        foreach (ModelStage stage in Stages)
        {
            activations = await stage.ForwardAsync(new(slot, step), batch, activations, options);
        }

        var loads = new List<LayerLoad>();
        MicroBatchLosses? losses = null;
        foreach (ModelStage stage in Stages)
        {
            ForwardReport part = stage.ReportOf(slot);
            loads.AddRange(part.Loads());
            losses = part.Losses();
            part.GiveBack();
        }

        var report = new MicroBatchReport(losses!, loads);
        if (options.Mode != ForwardMode.Evaluation)
        {
            StageActivations gradients = default;
            foreach (ModelStage stage in Stages.Reverse())
            {
                gradients = await stage.BackwardAsync(new(slot, step), gradients);
            }
        }

        return report;
    }

    /// <inheritdoc/>
    public async Task<IReadOnlyList<GradientNorm>> GradientNormsAsync()
    {
        var norms = new List<GradientNorm>();
        await _device.SubmitAsync(kernels => Optimizer.Norms(kernels, ParameterSets, norms));
        return norms;
    }

    /// <inheritdoc/>
    public Task ApplyAsync(AdamWStep rates) =>
        _device.SubmitAsync(kernels => Optimizer.Apply(kernels, ParameterSets, rates));

    /// <inheritdoc/>
    public Task UpdateBiasesAsync(long step, IReadOnlyDictionary<int, long[]> loads, float speed) =>
        _device.ReadAsync(kernels =>
        {
            foreach ((int layer, Tensor bias) in Stages.SelectMany(stage => stage.Biases))
            {
                float[] values = kernels.Read<float>(bias).ToArray();
                ExpertBias.Update(values, loads[layer], speed);
                kernels.Upload<float>(values, bias);
            }
        });

    /// <inheritdoc/>
    public async Task<float[]?> ReadActivationAsync(long slot, string name)
    {
        Tensor found = Stages.Select(stage => stage.Activation(slot, name)).FirstOrDefault(t => !t.IsEmpty);
        return found.IsEmpty ? null : await _device.ToFloatsAsync(found);
    }

    /// <inheritdoc/>
    public Task<float[]> ReadParameterAsync(string name) => _device.ToFloatsAsync(
        Stages.Select(stage => stage.FindBias(name)).FirstOrDefault(t => !t.IsEmpty) is { IsEmpty: false } bias
            ? bias
            : Find(name).Value);

    /// <inheritdoc/>
    public Task<float[]> ReadGradientAsync(string name) => _device.ToFloatsAsync(Find(name).Gradient);

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (ModelStage stage in Stages)
        {
            stage.Dispose();
        }

        _embedding.Dispose();
        _head.Dispose();
        _host.Dispose();
        foreach (Expert expert in _experts.Values.SelectMany(layer => layer))
        {
            expert.Dispose();
        }
    }

    private void Read(IKernels kernels, IParameterSource source)
    {
        foreach (ParameterSet set in ParameterSets)
        {
            set.Read(kernels, source);
        }

        foreach ((int layer, Tensor bias) in Stages.SelectMany(stage => stage.Biases))
        {
            source.Read(kernels, ModelStage.BiasName(layer), bias);
        }
    }
}
