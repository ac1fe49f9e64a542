using Krewe.Grains.Devices;
using Krewe.Model.Layers;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Pipeline;

/// <summary>The output head as the copy of the last stage sees it whose silo does not have it.</summary>
/// <param name="owner">The copy that has it.</param>
/// <param name="post">Sends and opens tensors.</param>
/// <param name="scope">Model or run name.</param>
internal sealed class RemoteHead(Neighbour<IPipelineStageGrain> owner, TensorPost post, string scope) : IRemoteHead
{
    /// <summary>The owner's results live until its next call, and its sums must come in the order of the calls.</summary>
    private readonly SerialCalls _calls = new();

    /// <inheritdoc/>
    public Task<HeadGradients> RunAsync(SlotCall call, Tensor hidden, Tensor targets, double gradScale, Arena arena) =>
        _calls.RunAsync(() => AskAsync(call, hidden, targets, gradScale, arena));

    private async Task<HeadGradients> AskAsync(
        SlotCall call, Tensor hidden, Tensor targets, double gradScale, Arena arena)
    {
        PostedTensor rows = await post.PostAsync(hidden, owner.Process, scope, call.Attempt, call.Abandoned);
        PostedTensor ids = await post.PostAsync(targets, owner.Process, scope, call.Attempt, call.Abandoned);
        var request = new HeadRequest(
            new(call.Slot, call.Step, call.Attempt), rows.Parcel, ids.Parcel, gradScale, post.Process);
        HeadReply reply = await rows.CompleteAsync(ids.CompleteAsync(
            owner.CallAsync(grain => grain.RunHeadAsync(request)).WaitAsync(call.Abandoned)));
        return new(
            await post.TakeAsync(reply.Losses, arena, call.Abandoned),
            await post.TakeAsync(reply.GradHidden, arena, call.Abandoned));
    }
}
