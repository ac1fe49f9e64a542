using Krewe.Grains.Devices;
using Krewe.Model.Kernels;
using Krewe.Model.Layers;
using Krewe.Model.Tensors;
using Krewe.Model.Training;

namespace Krewe.Grains.Pipeline;

/// <content>The end of a step: gradients of both directions, their norms, AdamW.</content>
public sealed partial class PipelineStageGrain
{
    /// <inheritdoc/>
    public async Task ExchangeGradientsAsync(StepCall call)
    {
        HostedStage hosted = Hosted;
        if (hosted.Mirror is { } mirror)
        {
            using StepGate.Entry entry = Model.Gate.Enter(call.Attempt);
            await Task.WhenAll(hosted.Mirrored.Select((parameters, set) =>
                ExchangeAsync(mirror, call, parameters, set, entry.Abandoned)));
        }
    }

    /// <inheritdoc/>
    public async Task<TensorParcel> AcceptGradientsAsync(StepCall call, int set, TensorParcel gradients, Guid process)
    {
        ParameterSet parameters = Hosted.Mirrored[set];
        using StepGate.Entry entry = Model.Gate.Enter(call.Attempt);
        await FillAsync(parameters.GradientBanks[1 - _direction], gradients, entry.Abandoned);
        return await SendAsync(parameters.GradientBanks[_direction], process, call, entry);
    }

    /// <inheritdoc/>
    public async Task<List<GradientNorm>> GradientNormsAsync(long attempt)
    {
        using StepGate.Entry entry = Model.Gate.Enter(attempt);
        var norms = new List<GradientNorm>();
        ModelStage stage = Hosted.Stage;
        await _host.Device.SubmitAsync(kernels => Optimizer.Norms(kernels, stage.ParameterSets, norms));
        // They were ahead of the norms, and are done.
        await Model.Behind.EndedAsync();
        return norms;
    }

    /// <inheritdoc/>
    public async Task ApplyAsync(AdamWStep rates, long attempt)
    {
        using StepGate.Entry entry = Model.Gate.Enter(attempt);
        ModelStage stage = Hosted.Stage;
        (Task launched, Task done) = _host.Device.Launch(kernels => Optimizer.Apply(kernels, stage.ParameterSets, rates));
        if (Model.GoesOn)
        {
            Model.Behind.Add(done, entry.Again());
        }

        await (Model.GoesOn ? launched : done);
    }

    private async Task ExchangeAsync(
        Neighbour<IPipelineStageGrain> mirror, StepCall call, ParameterSet parameters, int set, CancellationToken abandoned)
    {
        PostedTensor posted = await _post.PostAsync(
            parameters.GradientBanks[_direction], mirror.Process, _name, call.Attempt, abandoned);
        TensorParcel reply = await posted.CompleteAsync(mirror.CallAsync(
            grain => grain.AcceptGradientsAsync(call, set, posted.Parcel, _host.Process)).WaitAsync(abandoned));
        await FillAsync(parameters.GradientBanks[1 - _direction], reply, abandoned);
    }

    /// <summary>Copies a tensor that came into a bank of gradients, on the device.</summary>
    private async Task FillAsync(Tensor bank, TensorParcel parcel, CancellationToken abandoned)
    {
        using Arena arena = _host.Device.CreateArena("gradients of the other direction");
        Tensor gradients = await _post.OpenAsync(parcel, arena, abandoned);
        await _host.Device.SubmitAsync(kernels => kernels.Copy(gradients, bank));
    }
}
