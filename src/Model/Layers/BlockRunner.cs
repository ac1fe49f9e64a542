using Krewe.Model.Kernels;
using Krewe.Model.Tensors;
using Krewe.Model.Training;

namespace Krewe.Model.Layers;

/// <summary>
/// Walks blocks forward and backward on a device and calls the experts' hosts in between: the one place that knows
/// the order of compute, dispatch and combine, with and without a cluster.
/// </summary>
/// <param name="device">Where the blocks live.</param>
/// <param name="fleet">Where the experts live.</param>
/// <param name="parameters">The blocks' parameters.</param>
public sealed partial class BlockRunner(IDevice device, IExpertFleet fleet, ParameterSet parameters)
{
    /// <summary>One block and its state in the current micro-batch.</summary>
    /// <param name="Block">The block.</param>
    /// <param name="State">Its activations.</param>
    public readonly record struct Entry(TransformerBlock Block, TransformerBlock.State State);

    /// <summary>
    /// Runs the blocks in order; the result is the last state's <c>Output</c>. Ends when the last work was submitted.
    /// </summary>
    /// <param name="blocks">Blocks and states, at least one.</param>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="input">Makes the first block's input [T, D], in the same submission as the block.</param>
    /// <param name="pass">Layout and options.</param>
    /// <param name="call">Micro-batch or session, step or token number.</param>
    /// <param name="works">Takes what was submitted and not waited for.</param>
    /// <param name="output">
    /// Takes the last block's output [T, D], in the same submission as its end; may be null.
    /// </param>
    public async Task ForwardAsync(
        IReadOnlyList<Entry> blocks, Arena arena, Func<IKernels, Tensor> input, ForwardPass pass, SlotCall call,
        SubmittedWorks works, Action<IKernels, Tensor>? output = null)
    {
        TransformerBlock.State? waiting = null;
        for (int i = 0; i < blocks.Count; i++)
        {
            Entry entry = blocks[i];
            TransformerBlock.State? before = i > 0 ? blocks[i - 1].State : null;
            bool ends = i == blocks.Count - 1 && entry.Block.Moe is null;
            ExpertTopology? topology = entry.Block.Moe is null ? null : fleet.TopologyOf(entry.Block.Layer);
            DeviceSlice? own = topology is null
                ? null
                : entry.Block.Moe!.ChoosePlanner(
                    topology, pass.Layout.Tokens, SharesDevice(topology), entry.State.Moe);
            TransformerBlock.State? previous = waiting;
            works.Submit(
                kernels =>
                {
                    if (previous is not null)
                    {
                        MoeLayer.Combine(kernels, arena, previous.Moe);
                    }

                    entry.Block.Forward(kernels, arena, before?.Output ?? input(kernels), pass, topology, entry.State);
                    if (ends)
                    {
                        output?.Invoke(kernels, entry.State.Output);
                    }
                },
                call.Priority);
            waiting = null;
            if (entry.Block.Moe is not null)
            {
                var expertCall = new ExpertCall(entry.Block.Layer, call, pass.Balance is not null);
                if (own is not null)
                {
                    await ExpertsForwardBehindAsync(entry, arena, expertCall, own, works);
                }
                else
                {
                    await works.DoneAsync();
                    await ExpertsForwardAsync(entry, arena, expertCall);
                }

                waiting = entry.State;
            }
        }

        if (waiting is { } last)
        {
            works.Submit(
                kernels =>
                {
                    MoeLayer.Combine(kernels, arena, last.Moe);
                    output?.Invoke(kernels, last.Output);
                },
                call.Priority);
        }
    }

    /// <summary>
    /// Runs the blocks in reverse; the gradient of the input [T, D] is the first state's <c>GradInput</c>. Ends when the last
    /// work was submitted.
    /// </summary>
    /// <param name="blocks">Blocks and states, in forward order.</param>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="gradOutput">
    /// [T, D], asked for in the work that reads it; must live until the weight gradients were taken.
    /// </param>
    /// <param name="balance">Balance loss, as in the forward.</param>
    /// <param name="call">Micro-batch and step.</param>
    /// <param name="weightGradients">Also takes the weight gradients, block by block.</param>
    /// <param name="works">Takes what was submitted and not waited for.</param>
    public async Task BackwardAsync(
        IReadOnlyList<Entry> blocks, Arena arena, Func<Tensor> gradOutput, BalanceLossOptions balance, SlotCall call,
        bool weightGradients, SubmittedWorks works)
    {
        Entry? waiting = null;
        var requests = new List<Task>();
        for (int i = blocks.Count - 1; i >= 0; i--)
        {
            Entry entry = blocks[i];
            TransformerBlock.State? after = i < blocks.Count - 1 ? blocks[i + 1].State : null;
            Entry? previous = waiting;
            works.Submit(
                kernels =>
                {
                    if (previous is { } p)
                    {
                        Finish(kernels, p);
                    }

                    entry.Block.Backward(kernels, arena, after?.GradInput ?? gradOutput(), entry.State);
                    if (entry.Block.Moe is null)
                    {
                        TakeWeights(kernels, entry);
                    }
                },
                call.Priority);
            DeviceSlice? own = entry.Block.Moe is null ? null : entry.State.Moe.Plan.OnDevice;
            if (previous is { State.Moe.Plan.OnDevice: null } || (entry.Block.Moe is not null && own is null))
            {
                await works.DoneAsync();
            }

            RequestWeights(previous);
            waiting = null;
            if (own is not null)
            {
                await ExpertsBackwardBehindAsync(entry, arena, call, own, works);
                waiting = entry;
            }
            else if (entry.Block.Moe is not null)
            {
                await ExpertsBackwardAsync(entry, arena, call);
                waiting = entry;
            }
        }

        if (waiting is { } last)
        {
            works.Submit(kernels => Finish(kernels, last), call.Priority);
            if (last.State.Moe.Plan.OnDevice is null)
            {
                await works.DoneAsync();
            }
        }

        RequestWeights(waiting);
        await Task.WhenAll(requests);

        // The hosts add the experts' weight gradients while the backward goes on here. Not before their rows were
        // combined, or on this device will have been: from then on they may use the memory for another micro-batch.
        void RequestWeights(Entry? entry)
        {
            if (weightGradients && entry is { Block.Moe: not null } done)
            {
                requests.Add(RequestExpertWeightsAsync(done, call));
            }
        }

        void Finish(IKernels kernels, Entry entry)
        {
            entry.Block.CombineBackward(kernels, arena, balance, entry.State);
            TakeWeights(kernels, entry);
        }

        void TakeWeights(IKernels kernels, Entry entry)
        {
            if (weightGradients)
            {
                parameters.SelectGradients(call.Slot);
                entry.Block.BackwardWeight(kernels, entry.State);
            }
        }
    }

    /// <summary>
    /// Takes the deferred weight gradients, last block first, the experts' too, in the background: what others wait for
    /// passes them on the device. Ends when the last work was submitted.
    /// </summary>
    /// <param name="blocks">Blocks and states, in forward order.</param>
    /// <param name="call">Micro-batch and step.</param>
    /// <param name="works">Takes what was submitted.</param>
    public async Task BackwardWeightAsync(IReadOnlyList<Entry> blocks, SlotCall call, SubmittedWorks works)
    {
        for (int i = blocks.Count - 1; i >= 0; i--)
        {
            Entry entry = blocks[i];
            if (entry.Block.Moe is not null)
            {
                await RequestExpertWeightsAsync(entry, call);
            }

            works.Submit(
                kernels =>
                {
                    parameters.SelectGradients(call.Slot);
                    entry.Block.BackwardWeight(kernels, entry.State);
                },
                WorkPriority.Background);
        }
    }
}
