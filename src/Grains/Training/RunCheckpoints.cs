using System.Runtime.InteropServices;
using Krewe.Model.Checkpoints;
using Krewe.Model.Configuration;
using Krewe.Model.Data;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Training;

/// <summary>
/// Writes a run's checkpoint: the released files for everyone, and below <c>training</c> the float32 masters, moments
/// and position that the run itself goes on from. Tensors are fetched one at a time from a snapshot that the owners keep
/// in memory, while the run goes on.
/// </summary>
/// <param name="model">Stages and experts.</param>
/// <param name="recipe">The recipe.</param>
/// <param name="request">Folder, types and how many to keep.</param>
internal sealed class RunCheckpoints(ClusterModel model, TrainingConfig recipe, RunRequest request)
{
    /// <summary>
    /// Writes the checkpoint of a step and deletes old ones. Runs on pool threads, never in a grain's turn.
    /// </summary>
    /// <param name="step">Steps committed.</param>
    /// <param name="position">Where the data stands after them.</param>
    /// <param name="tokenizer">Saved beside the weights.</param>
    public Task<CheckpointWritten> SaveAsync(long step, ReaderPosition position, Tokenizer tokenizer) => Task.Run(async () =>
    {
        string folder = RunFolder.CheckpointOf(request.Folder, step);
        using var arena = new HostArena("checkpoint");
        var options = new CheckpointWriteOptions
        {
            DType = request.CheckpointType,
            AddFiles = (staging, cancellation) => AddTrainingStateAsync(staging, step, position, tokenizer, cancellation),
        };
        await CheckpointWriter.WriteAsync(
            folder, model.Config, options,
            async (spec, _) =>
            {
                arena.Reset();
                return TensorValues.ToFloats(await ReadAsync(spec.Name, ParameterPart.Value, step, arena));
            });
        RunFolder.Prune(request.Folder, request.KeepCheckpoints);
        return new CheckpointWritten(step, folder, RunFolder.SizeOf(folder));
    });

    private async Task AddTrainingStateAsync(
        string staging, long step, ReaderPosition position, Tokenizer tokenizer, CancellationToken cancellation)
    {
        tokenizer.Save(staging);
        new TrainingManifest
        {
            Step = step,
            TrainingJson = recipe.ToJson(),
            Fingerprint = position.Fingerprint,
            Epoch = position.Epoch,
            Window = position.Window,
        }.Write(staging);

        TensorSpec[] parameters = [.. DeepSeekNames.Enumerate(model.Config).Where(spec => spec.IsParameter)];
        IEnumerable<SafetensorsEntry> entries = DeepSeekNames.Enumerate(model.Config)
            .Where(spec => spec.Role == TensorRole.RouterBias)
            .Select(spec => new SafetensorsEntry(spec.Name, DType.Float32, spec.Shape))
            .Concat(parameters.SelectMany(spec => new SafetensorsEntry[]
            {
                new(spec.Name, DType.Float32, spec.Shape),
                new(TrainingStateFiles.FirstMoment(spec.Name), recipe.MomentType, spec.Shape),
                new(TrainingStateFiles.SecondMoment(spec.Name), recipe.MomentType, spec.Shape),
            }));
        string path = Path.Combine(staging, TrainingStateFiles.Folder, TrainingStateFiles.Optimizer);
        using var arena = new HostArena("checkpoint");
        using SafetensorsWriter writer = SafetensorsWriter.Create(path, [.. entries]);
        foreach (TensorSpec spec in DeepSeekNames.Enumerate(model.Config).Where(s => s.Role == TensorRole.RouterBias))
        {
            writer.Append(spec.Name, MemoryMarshal.AsBytes(TensorValues.ToFloats(await ReadAsync(spec.Name, ParameterPart.Value, step, arena)).AsSpan()));
        }

        foreach (TensorSpec spec in parameters)
        {
            cancellation.ThrowIfCancellationRequested();
            await AppendAsync(writer, spec.Name, spec.Name, ParameterPart.Value, step, arena);
            await AppendAsync(
                writer, TrainingStateFiles.FirstMoment(spec.Name), spec.Name, ParameterPart.FirstMoment, step, arena);
            await AppendAsync(
                writer, TrainingStateFiles.SecondMoment(spec.Name), spec.Name, ParameterPart.SecondMoment, step, arena);
        }

        writer.Finish();
    }

    private async Task AppendAsync(
        SafetensorsWriter writer, string entry, string parameter, ParameterPart part, long step, HostArena arena)
    {
        arena.Reset();
        Tensor tensor = await ReadAsync(parameter, part, step, arena);
        writer.Append(entry, BytesOf(tensor));
    }

    /// <summary>From the states that were saved at the step: the run has gone on meanwhile.</summary>
    private async Task<Tensor> ReadAsync(string name, ParameterPart part, long step, HostArena arena) =>
        await model.OpenAsync(await model.ReadSavedAsync(name, part, checked((int)step)), arena);

    private static unsafe ReadOnlySpan<byte> BytesOf(Tensor tensor) =>
        new((void*)tensor.HostAddress, checked((int)tensor.Bytes));
}
