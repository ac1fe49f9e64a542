using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <content>Dispatch and combine where the device has all experts and plans by itself (docs/decisions/0015).</content>
public sealed partial class MoeLayer
{
    /// <summary>
    /// Decides who plans the next forward, ahead of its <see cref="Dispatch"/>: the device where it has all experts and
    /// memory of its own, and enough tokens come; null where the host does.
    /// </summary>
    /// <param name="topology">Where the experts live.</param>
    /// <param name="tokens">T.</param>
    /// <param name="sharesDevice">True where all experts live on the stage's device, whose memory the host does not
    /// reach.</param>
    /// <param name="state">Of the micro-batch.</param>
    public DeviceSlice? ChoosePlanner(
        ExpertTopology topology, int tokens, bool sharesDevice, State state)
    {
        if (sharesDevice && DeviceSlice.Pays((long)tokens * _config.NumExpertsPerTok, topology.Experts))
        {
            return state.Plan.LeaveToDevice(tokens, _config.NumExpertsPerTok, topology);
        }

        state.Plan.LeaveToHost();
        return null;
    }

    private void PlanOnDevice(
        IKernels kernels, Arena arena, Tensor input, ExpertTopology topology, DeviceSlice own, State state)
    {
        own.Table = DispatchTable.Allocate(arena, input.Rows, _config.NumExpertsPerTok, topology.Experts);
        (own.Indices, own.Weights, own.Rows) = (state.Router.Indices, state.Router.Weights, input);
        kernels.PlanDispatch(own.Indices, own.Table);
    }

    /// <summary>Adds what the only host has returned, a row for each assignment.</summary>
    private static void CombineOnDevice(IKernels kernels, DeviceSlice own, State state, Tensor weights, Tensor output) =>
        kernels.CombineExperts(
            own.Returned, own.Table, own.Indices, weights, own.GroupSize, state.CombineType, output);
}
