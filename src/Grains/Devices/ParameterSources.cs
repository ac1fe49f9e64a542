using System.Collections.Concurrent;
using Krewe.Model.Checkpoints;
using Krewe.Model.Layers;
using Krewe.Model.Tensors;
using Krewe.Model.Training;

namespace Krewe.Grains.Devices;

/// <summary>
/// Opens the source of a model's parameters once per silo and fills the sets of stages and experts from it, on the device.
/// </summary>
public sealed class ParameterSources : IDisposable
{
    private readonly ConcurrentDictionary<string, Lazy<CheckpointReader>> _checkpoints = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, Lazy<TrainingStateReader>> _states = new(StringComparer.Ordinal);

    /// <summary>Fills parameters, and gradients and moments where the source says that they are needed.</summary>
    public async Task FillAsync(ModelSource source, ParameterSet parameters, IDevice device)
    {
        IParameterSource values = Open(source);
        TrainingStateReader? state = source.Resume ? State(source.Checkpoint!) : null;
        await device.SubmitAsync(kernels =>
        {
            foreach (Parameter parameter in parameters.All)
            {
                values.Read(parameter.Name, parameter.Shape, parameter.Value.AsSpan<float>());
            }

            if (!source.Training)
            {
                return;
            }

            parameters.PrepareForTraining(kernels, source.MomentType);
            if (state is not null)
            {
                foreach (Parameter parameter in parameters.All)
                {
                    state.ReadMoments(parameter);
                }
            }
        });
    }

    /// <summary>The values behind a source: float32 masters of a training state, weights of a checkpoint, or a seed.</summary>
    public IParameterSource Open(ModelSource source)
    {
        if (source.Checkpoint is not { } folder)
        {
            var config = Model.Configuration.ModelConfig.Parse(source.ConfigJson, "the load request");
            return new SeededParameters(source.Seed, config.InitializerRange);
        }

        return source.Resume
            ? State(folder)
            : new CheckpointParameters(_checkpoints.GetOrAdd(folder, f => new(() => CheckpointReader.Open(f))).Value);
    }

    /// <summary>Closes the files of a folder.</summary>
    public void Close(string folder)
    {
        if (_checkpoints.TryRemove(folder, out Lazy<CheckpointReader>? reader) && reader.IsValueCreated)
        {
            reader.Value.Dispose();
        }

        if (_states.TryRemove(folder, out Lazy<TrainingStateReader>? state) && state.IsValueCreated)
        {
            state.Value.Dispose();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (string folder in _checkpoints.Keys.Concat(_states.Keys).ToArray())
        {
            Close(folder);
        }
    }

    private TrainingStateReader State(string folder) =>
        _states.GetOrAdd(folder, f => new(() => TrainingStateReader.Open(f))).Value;
}
