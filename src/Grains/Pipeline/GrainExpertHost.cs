using Krewe.Model.Layers;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Pipeline;

/// <summary>A silo's experts as a stage sees them: every call goes to that silo's gateway grain once.</summary>
/// <param name="gateway">The gateway.</param>
/// <param name="stageProcess">Process identity of the stage's silo.</param>
/// <param name="received">Where tensors that come as bytes are put, one arena per layer and slot.</param>
internal sealed class GrainExpertHost(
    Neighbour<IExpertHostGrain> gateway, Guid stageProcess, Func<int, long, Arena> received) : IExpertHost
{
    private readonly bool _sameProcess = stageProcess == gateway.Process;

    /// <inheritdoc/>
    public async Task<Tensor> ForwardAsync(ExpertCall call, ExpertSlice slice, Tensor rows)
    {
        var request = new ExpertForward(
            call.Layer, call.Slot, call.Step, ExpertSliceParcel.Of(slice, _sameProcess),
            TensorParcel.Of(rows, _sameProcess), stageProcess);
        try
        {
            TensorParcel reply = await gateway.CallAsync(grain => grain.ForwardAsync(request));
            Arena arena = received(call.Layer, call.Slot);
            arena.Reset();
            return reply.Open(arena);
        }
        catch
        {
            request.Slice.Withdraw();
            request.Rows.Withdraw();
            throw;
        }
    }

    /// <inheritdoc/>
    public async Task<ExpertGradients> BackwardAsync(ExpertCall call, Tensor gradRows, bool weightGradients)
    {
        var request = new ExpertBackward(
            call.Layer, call.Slot, call.Step, TensorParcel.Of(gradRows, _sameProcess), weightGradients, stageProcess);
        try
        {
            TensorParcel[] reply = await gateway.CallAsync(grain => grain.BackwardAsync(request));
            Arena arena = received(call.Layer, call.Slot);
            return new(reply[0].Open(arena), reply[1].Open(arena));
        }
        catch
        {
            request.GradRows.Withdraw();
            throw;
        }
    }

    /// <inheritdoc/>
    public Task BackwardWeightAsync(ExpertCall call) =>
        gateway.CallAsync(grain => grain.BackwardWeightAsync(call.Layer, call.Slot, call.Step));

    /// <inheritdoc/>
    public Task ReleaseAsync(long slot) => gateway.CallAsync(grain => grain.ReleaseAsync(slot));
}
