using System.Runtime.InteropServices;
using Krewe.Model.Checkpoints;
using Krewe.Model.Configuration;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Training;

/// <summary>
/// Writes a run's checkpoint: the released files for everyone, and below <c>training</c> the float32 masters, moments
/// and position that the run itself goes on from. Tensors are fetched from their owners one at a time.
/// </summary>
/// <param name="model">Stages and experts.</param>
/// <param name="recipe">The recipe.</param>
/// <param name="request">Folder, types and how many to keep.</param>
internal sealed class RunCheckpoints(ClusterModel model, TrainingConfig recipe, RunRequest request)
{
    /// <summary>
    /// Writes the checkpoint of a step and deletes old ones. Runs on pool threads, never in a grain's turn.
    /// </summary>
    public Task<CheckpointWritten> SaveAsync(long step, RunData data) => Task.Run(async () =>
    {
        string folder = RunFolder.CheckpointOf(request.Folder, step);
        var options = new CheckpointWriteOptions
        {
            DType = request.CheckpointType,
            AddFiles = (staging, cancellation) => AddTrainingStateAsync(staging, step, data, cancellation),
        };
        await CheckpointWriter.WriteAsync(
            folder, model.Config, options,
            async (spec, _) => await model.ReadParameterAsync(spec.Name));
        RunFolder.Prune(request.Folder, request.KeepCheckpoints);
        return new CheckpointWritten(step, folder, RunFolder.SizeOf(folder));
    });

    private async Task AddTrainingStateAsync(string staging, long step, RunData data, CancellationToken cancellation)
    {
        data.Dataset.Tokenizer.Save(staging);
        var position = data.Reader.Position;
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
            writer.Append(spec.Name, MemoryMarshal.AsBytes((await model.ReadParameterAsync(spec.Name)).AsSpan()));
        }

        foreach (TensorSpec spec in parameters)
        {
            cancellation.ThrowIfCancellationRequested();
            await AppendAsync(writer, spec.Name, spec.Name, ParameterPart.Value, arena);
            await AppendAsync(
                writer, TrainingStateFiles.FirstMoment(spec.Name), spec.Name, ParameterPart.FirstMoment, arena);
            await AppendAsync(
                writer, TrainingStateFiles.SecondMoment(spec.Name), spec.Name, ParameterPart.SecondMoment, arena);
        }

        writer.Finish();
    }

    private async Task AppendAsync(
        SafetensorsWriter writer, string entry, string parameter, ParameterPart part, HostArena arena)
    {
        arena.Reset();
        Tensor tensor = (await model.ReadAsync(parameter, part)).Open(arena);
        writer.Append(entry, BytesOf(tensor));
    }

    private static unsafe ReadOnlySpan<byte> BytesOf(Tensor tensor) =>
        new((void*)tensor.Address, checked((int)(tensor.Count * tensor.DType.SizeInBytes())));
}
