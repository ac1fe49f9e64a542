using System.Collections.Concurrent;
using Krewe.Model.Checkpoints;
using Krewe.Model.Layers;
using Krewe.Model.Tensors;
using Krewe.Model.Training;

namespace Krewe.Grains.Devices;

/// <summary>
/// Opens the source of a model's parameters and fills the sets of stages and experts from it, on the device. A
/// checkpoint is mapped once for all that read it at the same time, and unmapped after the last.
/// </summary>
public sealed class ParameterSources : IDisposable
{
    private readonly ConcurrentDictionary<string, Lazy<CheckpointReader>> _checkpoints = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, Lazy<TrainingStateReader>> _states = new(StringComparer.Ordinal);
    private readonly Dictionary<string, int> _readings = new(StringComparer.Ordinal);

    /// <summary>
    /// Fills parameters, and gradients and moments where the source says that they are needed; then the given buffers.
    /// </summary>
    /// <param name="source">Where the values come from.</param>
    /// <param name="parameters">What is filled.</param>
    /// <param name="device">Where it lives.</param>
    /// <param name="buffers">Buffers by checkpoint name, such as routing biases; may be null.</param>
    public async Task FillAsync(
        ModelSource source, ParameterSet parameters, IDevice device, IReadOnlyDictionary<string, Tensor>? buffers = null)
    {
        Enter(source.Checkpoint);
        try
        {
            await ReadAsync(source, parameters, device, buffers);
        }
        finally
        {
            Leave(source.Checkpoint);
        }
    }

    /// <summary>Brings an owner to the state that a source names: saved states in memory first, then files or a seed.</summary>
    internal async Task FillAsync(
        ModelSource source, OwnerState owner, HostedModel model, StateRestorer restorer, bool isNew)
    {
        if (source.Snapshot is { } snapshot)
        {
            if (isNew)
            {
                await model.Device.SubmitAsync(kernels => owner.Parameters.PrepareForTraining(kernels, source.MomentType));
            }

            await restorer.RestoreAsync(model, owner, snapshot, isNew);
            return;
        }

        await FillAsync(source, owner.Parameters, model.Device, owner.Biases.ToDictionary(b => b.Name, b => b.Bias));
        owner.Parameters.AppliedStep = source.Step;
    }

    private async Task ReadAsync(
        ModelSource source, ParameterSet parameters, IDevice device, IReadOnlyDictionary<string, Tensor>? buffers)
    {
        IParameterSource values = Open(source);
        TrainingStateReader? state = source.Resume ? State(source.Checkpoint!) : null;
        await device.SubmitAsync(kernels =>
        {
            parameters.Read(kernels, values);
            foreach ((string name, Tensor buffer) in buffers ?? new Dictionary<string, Tensor>())
            {
                values.Read(kernels, name, buffer);
            }

            if (!source.Training)
            {
                return;
            }

            parameters.PrepareForTraining(kernels, source.MomentType);
            parameters.ResetMoments(kernels);
            if (state is not null)
            {
                foreach (Parameter parameter in parameters.All)
                {
                    state.ReadMoments(kernels, parameter);
                }
            }
        });
    }

    private void Enter(string? folder)
    {
        if (folder is null)
        {
            return;
        }

        lock (_readings)
        {
            _readings[folder] = _readings.GetValueOrDefault(folder) + 1;
        }
    }

    /// <summary>
    /// The values behind a source: float32 masters of a training state, weights of a checkpoint, or a seed.
    /// </summary>
    private IParameterSource Open(ModelSource source)
    {
        if (source.Checkpoint is not { } folder)
        {
            var config = Model.Configuration.ModelConfig.Parse(source.ConfigJson, "the load request");
            return new SeededParameters(source.Seed, config.InitializerRange, onDevice: !source.Training);
        }

        return source.Resume
            ? State(folder)
            : new CheckpointParameters(_checkpoints.GetOrAdd(folder, f => new(() => CheckpointReader.Open(f))).Value);
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

    /// <summary>Unmaps a folder's files when the last reading of it ends.</summary>
    private void Leave(string? folder)
    {
        if (folder is null)
        {
            return;
        }

        lock (_readings)
        {
            int left = _readings[folder] - 1;
            _readings[folder] = left;
            if (left == 0)
            {
                _readings.Remove(folder);
                Close(folder);
            }
        }
    }

    private void Close(string folder)
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
}
