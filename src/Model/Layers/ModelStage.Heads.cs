using Krewe.Model.Kernels;
using Krewe.Model.Tensors;
using Krewe.Model.Training;

namespace Krewe.Model.Layers;

/// <content>The last stage's own work: final norm, head and multi-token prediction, forward and backward.</content>
public sealed partial class ModelStage
{
    private void ForwardMainHead(
        IKernels kernels, Slot held, Tensor stream, MicroBatch batch, ForwardOptions options)
    {
        held.MainTargets = held.Arena.Upload(kernels, batch.Targets.AsSpan());
        held.Norm = _norm!.Forward(kernels, held.Arena, stream);
        ForwardHead(kernels, held, held.Norm.Output, held.MainTargets, options.MainScale, options, held.Head);
    }

    /// <summary>
    /// What follows the main model's head: the MTP modules with theirs. Where the head is elsewhere, a module computes
    /// while the rows of the one before it are there.
    /// </summary>
    private async Task ForwardHeadsAsync(
        Slot held, SlotCall call, MicroBatch batch, ForwardOptions options, ForwardPass pass, SubmittedWorks works)
    {
        if (Head is not null)
        {
            await ForwardMtpAsync(held, call, batch, options, pass, works, _ => Task.CompletedTask);
            return;
        }

        await works.DoneAsync();
        Task away = RunRemoteHeadAsync(held, call, held.Norm.Output, held.MainTargets, options.MainScale, held.Head);
        try
        {
            await ForwardMtpAsync(held, call, batch, options, pass, works, async module =>
            {
                MultiTokenPrediction.State state = held.Mtp[module.Depth - 1];
                await works.DoneAsync();
                await away;
                away = RunRemoteHeadAsync(
                    held, call, state.HeadNorm.Output, state.Targets, options.MtpScales[module.Depth - 1], state.Head);
            });
        }
        finally
        {
            // Whatever happens here, nobody may still read this micro-batch when its caller goes on.
            await away;
        }
    }

    /// <summary>Has a head elsewhere take rows that are done.</summary>
    private async Task RunRemoteHeadAsync(
        Slot held, SlotCall call, Tensor hidden, Tensor targets, double scale, OutputHead.State state)
    {
        if (held.Options.Mode == ForwardMode.Evaluation)
        {
            throw new InvalidOperationException(
                $"stage {Range.Index} has its head on another device: evaluate with the copy that has it here");
        }

        held.Received ??= _device.CreateArena($"stage {Range.Index}, from the head");
        (state.Losses, state.GradHidden) = await RemoteHead!.RunAsync(call, hidden, targets, scale, held.Received);
    }

    private async Task ForwardMtpAsync(
        Slot held, SlotCall call, MicroBatch batch, ForwardOptions options, ForwardPass pass, SubmittedWorks works,
        Func<MultiTokenPrediction, Task> then)
    {
        // What a module reads is asked for in its own work, behind that of the one before.
        TokenLayout previousLayout = held.Layout;
        Func<Tensor> previous = () => MtpReadsNormed ? held.Norm.Output : held.Stream;
        foreach (MultiTokenPrediction module in _mtp)
        {
            MultiTokenPrediction.State state = held.Mtp[module.Depth - 1];
            TokenLayout fromLayout = previousLayout;
            Func<Tensor> from = previous;
            await _runner.ForwardAsync(
                [MtpEntry(held, module.Depth)], held.Arena,
                kernels => module.Join(
                    kernels, held.Arena, held.Layout, fromLayout, from(), held.Embeddings, batch.Targets, state),
                pass with { Layout = state.Layout }, call, works,
                (kernels, _) =>
                {
                    Tensor normed = module.Normalize(kernels, held.Arena, state);
                    double scale = options.MtpScales[module.Depth - 1];
                    ForwardHead(kernels, held, normed, state.Targets, scale, options, state.Head);
                });
            await then(module);
            previous = () => MtpReadsNormed ? state.HeadNorm.Output : state.Block.Output;
            previousLayout = state.Layout;
        }
    }

    /// <summary>The head's forward where it is here.</summary>
    private void ForwardHead(
        IKernels kernels, Slot held, Tensor hidden, Tensor targets, double scale, ForwardOptions options,
        OutputHead.State state)
    {
        if (Head is null)
        {
            return;
        }

        if (options.Mode == ForwardMode.Evaluation)
        {
            Head.Evaluate(kernels, held.Arena, hidden, targets, state);
        }
        else
        {
            bool keep = options.Mode == ForwardMode.Check;
            Head.Forward(kernels, held.Arena, hidden, targets, (float)scale, keep, state);
        }
    }

    /// <summary>Backward of heads and MTP modules; leaves the gradients of the stream and of the embeddings.</summary>
    private async Task BackwardHeadsAsync(Slot held, SlotCall call, bool weightGradients, SubmittedWorks works)
    {
        Arena arena = held.Arena;
        works.Submit(kernels => BeginBackwardHeads(kernels, held), call.Priority);
        for (int depth = _mtp.Count; depth >= 1; depth--)
        {
            MultiTokenPrediction module = _mtp[depth - 1];
            MultiTokenPrediction.State state = held.Mtp[depth - 1];
            MultiTokenPrediction.State? before = depth > 1 ? held.Mtp[depth - 2] : null;
            works.Submit(kernels => module.BackwardNormalize(kernels, state), call.Priority);
            await _runner.BackwardAsync(
                [MtpEntry(held, depth)], arena, () => state.GradStream, held.Options.Balance, call, weightGradients, works);
            works.Submit(
                kernels =>
                {
                    (Tensor normed, Tensor stream) = before is null
                        ? (held.GradNormed, held.GradStream.Hidden)
                        : (before.GradNormed, before.GradStream);
                    module.BackwardJoin(
                        kernels, arena, state, state.Block.GradInput, held.GradStream.Embeddings,
                        MtpReadsNormed ? normed : stream);
                },
                call.Priority);
        }

        works.Submit(
            kernels =>
            {
                _norm!.BackwardInput(kernels, held.Norm, held.GradNormed, held.GradStream.Hidden, accumulate: true);
                if (weightGradients)
                {
                    HeadsBackwardWeight(kernels, held, call.Slot);
                }
            },
            call.Priority);
    }

    private void BeginBackwardHeads(IKernels kernels, Slot held)
    {
        Arena arena = held.Arena;
        int width = Config.HiddenSize;
        Tensor gradStream = Zero(kernels, arena, held.Layout.Tokens, width);
        held.GradStream = new(gradStream, _mtp.Count > 0 ? Zero(kernels, arena, held.Layout.Tokens, width) : default);
        held.GradNormed = HeadBackwardInput(kernels, arena, held.Head, held.Layout.Tokens);
        foreach (MultiTokenPrediction.State state in held.Mtp)
        {
            state.GradStream = Zero(kernels, arena, state.Layout.Tokens, width);
            state.GradNormed = HeadBackwardInput(kernels, arena, state.Head, state.Layout.Tokens);
        }
    }

    /// <summary>Gradient of the rows that went into the head [T, D].</summary>
    private Tensor HeadBackwardInput(IKernels kernels, Arena arena, OutputHead.State state, int rows)
    {
        if (Head is null)
        {
            return state.GradHidden;
        }

        Tensor gradHidden = arena.Allocate(rows, Config.HiddenSize);
        Head.BackwardInput(kernels, state, gradHidden);
        return gradHidden;
    }

    /// <summary>
    /// Head, final norm and the MTP modules' own weights, the head's contributions in depth order; a head elsewhere has
    /// added its own.
    /// </summary>
    private void HeadsBackwardWeight(IKernels kernels, Slot held, long slot)
    {
        Parameters.SelectGradients(slot);
        Head?.BackwardWeight(kernels, slot, held.Head);
        _norm!.BackwardWeight(kernels, held.Norm, held.GradNormed);
        foreach (MultiTokenPrediction module in _mtp)
        {
            Head?.BackwardWeight(kernels, slot, held.Mtp[module.Depth - 1].Head);
            module.BackwardWeight(kernels, held.Mtp[module.Depth - 1]);
        }
    }
}
