using Krewe.Grains.Devices;
using Krewe.Model.Generation;
using Krewe.Model.Layers;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Pipeline;

/// <content>Parameters and activations for those who ask, and generation.</content>
public sealed partial class PipelineStageGrain
{
    /// <summary>Ends the scope of tensors that belong to no attempt at a step.</summary>
    private const string ReadScope = "/read";

    /// <inheritdoc/>
    public async Task<TensorParcel> ReadParameterAsync(string name, ParameterPart part, Guid process)
    {
        ModelStage stage = Hosted.Stage;
        Tensor tensor = part == ParameterPart.Value ? stage.FindBias(name) : default;
        if (part == ParameterPart.Gradient)
        {
            await _host.Device.SubmitAsync(kernels =>
            {
                foreach (ParameterSet parameters in stage.ParameterSets)
                {
                    parameters.MergeGradients(kernels);
                }
            });
        }

        if (tensor.IsEmpty)
        {
            tensor = Parts.Of(
                stage.ParameterSets.Select(parameters => parameters.Find(name)).FirstOrDefault(found => found is not null)
                    ?? throw new ArgumentException($"stage {_index} of '{_name}' has no parameter '{name}'"),
                part);
        }

        return await ReadAsync(tensor, process);
    }

    /// <inheritdoc/>
    public Task<TensorParcel> ReadActivationAsync(long slot, string name, Guid process) =>
        ReadAsync(Hosted.Stage.Activation(slot, name), process);

    /// <inheritdoc/>
    public async Task OpenSessionAsync(long session, int[] capacities)
    {
        Hosted.Stage.OpenSession(session, capacities);
        if (Hosted.Next is { } next)
        {
            await next.CallAsync(grain => grain.OpenSessionAsync(session, capacities));
        }
    }

    /// <inheritdoc/>
    public async Task<int[]> DecodeAsync(long session, DecodeStep step, TensorParcel hidden)
    {
        HostedStage hosted = Hosted;
        Tensor input = await _post.OpenAsync(hidden, hosted.ArenaFor(session, gradients: false));
        DecodeResult result = await hosted.Stage.DecodeAsync(session, step, input);
        if (hosted.Next is not { } next)
        {
            return result.Tokens;
        }

        PostedTensor posted = await _post.PostAsync(result.Hidden, next.Process, _name);
        return await posted.CompleteAsync(next.CallAsync(grain => grain.DecodeAsync(session, step, posted.Parcel)));
    }

    /// <inheritdoc/>
    public async Task ReleaseAsync(long slot)
    {
        HostedStage hosted = Hosted;
        await hosted.Stage.ReleaseAsync(slot);
        hosted.Release(slot);
        if (hosted.Next is { } next)
        {
            await next.CallAsync(grain => grain.ReleaseAsync(slot));
        }
    }

    private async Task<TensorParcel> ReadAsync(Tensor tensor, Guid process) =>
        await (await _post.PostAsync(tensor, process, _name + ReadScope)).ReplyAsync();
}
