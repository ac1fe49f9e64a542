using Krewe.Grains.Devices;
using Krewe.Model.Layers;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Pipeline;

/// <summary>A place's experts as a stage sees them: every call goes to that place's gateway grain once.</summary>
/// <param name="gateway">The gateway.</param>
/// <param name="post">Sends and opens tensors.</param>
/// <param name="scope">Model or run name.</param>
/// <param name="process">Process identity of the stage's silo.</param>
/// <param name="isHere">True where the place is the stage's own.</param>
/// <param name="model">What of the model is at the stage's place.</param>
/// <param name="received">Where tensors that come as bytes are put, one arena per layer and slot.</param>
internal sealed class GrainExpertHost(
    Neighbour<IExpertHostGrain> gateway, TensorPost post, string scope, Guid process, bool isHere, HostedModel model,
    Func<int, long, Arena> received) : IExpertHost
{
    /// <inheritdoc/>
    public bool SharesDevice => isHere;

    /// <inheritdoc/>
    /// <remarks>The grains join by way of their gateway; their weights are in the silo's store.</remarks>
    public async Task<Expert[]> JoinAsync(int layer, int count, SlotCall work)
    {
        await gateway.CallAsync(grain => grain.JoinAsync(layer, CallOf(work)));
        return
        [
            .. Enumerable.Range(0, count).Select(index => model.FindExpert(layer, index)
                ?? throw new InvalidOperationException($"expert {layer}/{index} of '{scope}' has no weights here")),
        ];
    }

    /// <inheritdoc/>
    public async Task<Tensor> ForwardAsync(ExpertCall call, ExpertSlice slice, Tensor rows)
    {
        PostedTensor posted = await post.PostAsync(rows, gateway.Process, scope, call.Work.Attempt, call.Work.Abandoned);
        var request = new ExpertForward(
            call.Layer, CallOf(call.Work), ExpertSliceParcel.Of(slice, process == gateway.Process), posted.Parcel, call.BackwardFollows, process);
        try
        {
            TensorParcel reply = await posted.CompleteAsync(
                gateway.CallAsync(grain => grain.ForwardAsync(request)).WaitAsync(call.Work.Abandoned));
            Arena arena = received(call.Layer, call.Slot);
            arena.Reset();
            return await post.OpenAsync(reply, arena, call.Work.Abandoned);
        }
        catch
        {
            request.Slice.Withdraw();
            throw;
        }
    }

    /// <inheritdoc/>
    public async Task<ExpertGradients> BackwardAsync(ExpertCall call, Tensor gradRows)
    {
        PostedTensor posted = await post.PostAsync(gradRows, gateway.Process, scope, call.Work.Attempt, call.Work.Abandoned);
        var request = new ExpertBackward(call.Layer, CallOf(call.Work), posted.Parcel, process);
        TensorParcel[] reply = await posted.CompleteAsync(
            gateway.CallAsync(grain => grain.BackwardAsync(request)).WaitAsync(call.Work.Abandoned));
        Arena arena = received(call.Layer, call.Slot);
        return new(
            await post.OpenAsync(reply[0], arena, call.Work.Abandoned),
            await post.OpenAsync(reply[1], arena, call.Work.Abandoned));
    }

    /// <inheritdoc/>
    public Task BackwardWeightAsync(ExpertCall call) =>
        gateway.CallAsync(grain => grain.BackwardWeightAsync(call.Layer, CallOf(call.Work)))
            .WaitAsync(call.Work.Abandoned);

    /// <inheritdoc/>
    public Task ReleaseAsync(long slot) => gateway.CallAsync(grain => grain.ReleaseAsync(slot));

    private static StepCall CallOf(SlotCall work) => new(work.Slot, work.Step, work.Attempt, work.Turn);
}
