using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <content>Calls to the experts' hosts: awaited, or submitted behind what was submitted here.</content>
public sealed partial class BlockRunner
{
    /// <summary>True where all experts live on this device, in memory that the host does not reach.</summary>
    private bool SharesDevice(ExpertTopology topology) =>
        topology.OnlyHost >= 0 && fleet.Hosts[topology.OnlyHost].SharesDevice && !device.SharesHostMemory();

    /// <summary>
    /// Has experts on this device submit their work behind what was submitted here, and the shared expert while they do.
    /// Nothing is waited for but that it was submitted: what comes next does so behind it.
    /// </summary>
    private async Task ExpertsForwardBehindAsync(
        Entry entry, Arena arena, ExpertCall call, DeviceSlice own, SubmittedWorks works)
    {
        Task<Tensor> away = fleet.Hosts[own.Host].ForwardAsync(call, entry.State.Moe.Plan.Slices[own.Host], default);
        works.Submit(kernels => entry.Block.ForwardShared(kernels, arena, entry.State), call.Work.Priority);
        await BehindAsync(away, works);
    }

    private async Task ExpertsBackwardBehindAsync(
        Entry entry, Arena arena, SlotCall work, DeviceSlice own, SubmittedWorks works)
    {
        var call = new ExpertCall(entry.Block.Layer, work, BackwardFollows: true);
        Task<ExpertGradients> away = fleet.Hosts[own.Host].BackwardAsync(call, default);
        works.Submit(kernels => entry.Block.BackwardShared(kernels, arena, entry.State), work.Priority);
        await BehindAsync(away, works);
    }

    /// <summary>Waits for a call that fails only where nothing more may be submitted behind it.</summary>
    private static async Task BehindAsync(Task away, SubmittedWorks works)
    {
        try
        {
            await away;
        }
        catch
        {
            // Whatever happens here, nobody may still write to this micro-batch when its caller goes on.
            await works.DoneAsync();
            throw;
        }
    }

    private async Task ExpertsForwardAsync(Entry entry, Arena arena, ExpertCall call)
    {
        MoeLayer.State state = entry.State.Moe;
        Task<Tensor>[] away = [.. Busy(state.Plan.Slices).Select(host =>
            fleet.Hosts[host].ForwardAsync(call, state.Plan.Slices[host], state.HostRows[host]))];
        Tensor[] rows;
        try
        {
            await device.SubmitAsync(
                kernels => entry.Block.ForwardShared(kernels, arena, entry.State), call.Work.Priority);
        }
        finally
        {
            // Whatever happens here, nobody may still write to this micro-batch when its caller goes on.
            rows = await Task.WhenAll(away);
        }

        int next = 0;
        foreach (int host in Busy(state.Plan.Slices))
        {
            state.Returned[host] = rows[next++];
        }
    }

    /// <summary>Asks every host, also one that got no token: a slot's turn must come or pass everywhere.</summary>
    private Task RequestExpertWeightsAsync(Entry entry, SlotCall call)
    {
        var request = new ExpertCall(entry.Block.Layer, call, BackwardFollows: true);
        return Task.WhenAll(fleet.Hosts.Select(host => host.BackwardWeightAsync(request)));
    }

    private async Task ExpertsBackwardAsync(Entry entry, Arena arena, SlotCall work)
    {
        MoeLayer.State state = entry.State.Moe;
        var call = new ExpertCall(entry.Block.Layer, work, BackwardFollows: true);
        Task<ExpertGradients>[] away = [.. Busy(state.Plan.Slices).Select(host =>
            fleet.Hosts[host].BackwardAsync(call, state.HostRows[host]))];
        ExpertGradients[] gradients;
        try
        {
            await device.SubmitAsync(
                kernels => entry.Block.BackwardShared(kernels, arena, entry.State), work.Priority);
        }
        finally
        {
            gradients = await Task.WhenAll(away);
        }

        int next = 0;
        foreach (int host in Busy(state.Plan.Slices))
        {
            state.Returned[host] = gradients[next].Rows;
            state.ReturnedWeights[host] = gradients[next++].Weights;
        }
    }

    /// <summary>Hosts that got at least one token.</summary>
    private static IEnumerable<int> Busy(IReadOnlyList<ExpertSlice> slices) =>
        Enumerable.Range(0, slices.Count).Where(host => slices[host].Assignments > 0);
}
