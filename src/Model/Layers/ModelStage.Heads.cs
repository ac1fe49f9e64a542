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
        Slot held, SlotCall call, MicroBatch batch, ForwardOptions options, ForwardPass pass)
    {
        Task away = RunRemoteHeadAsync(held, call, held.Norm.Output, held.MainTargets, options.MainScale, held.Head);
        try
        {
            await ForwardMtpAsync(held, call, batch, options, pass, async (module, normed) =>
            {
                MultiTokenPrediction.State state = held.Mtp[module.Depth - 1];
                await away;
                away = RunRemoteHeadAsync(held, call, normed, state.Targets, options.MtpScales[module.Depth - 1], state.Head);
            });
        }
        finally
        {
            // Whatever happens here, nobody may still read this micro-batch when its caller goes on.
            await away;
        }
    }

    /// <summary>Has a head elsewhere take rows; nothing is left to do where the head is here.</summary>
    private async Task RunRemoteHeadAsync(
        Slot held, SlotCall call, Tensor hidden, Tensor targets, double scale, OutputHead.State state)
    {
        if (Head is not null)
        {
            return;
        }

        if (held.Options.Mode == ForwardMode.Evaluation)
        {
            throw new InvalidOperationException(
                $"stage {Range.Index} has its head on another device: evaluate with the copy that has it here");
        }

        held.Received ??= _device.CreateArena($"stage {Range.Index}, from the head");
        (state.Losses, state.GradHidden) = await RemoteHead!.RunAsync(call, hidden, targets, scale, held.Received);
    }

    private async Task ForwardMtpAsync(
        Slot held, SlotCall call, MicroBatch batch, ForwardOptions options, ForwardPass pass,
        Func<MultiTokenPrediction, Tensor, Task> then)
    {
        TokenLayout previousLayout = held.Layout;
        Tensor previous = MtpReadsNormed ? held.Norm.Output : held.Stream;
        foreach (MultiTokenPrediction module in _mtp)
        {
            MultiTokenPrediction.State state = held.Mtp[module.Depth - 1];
            TokenLayout fromLayout = previousLayout;
            Tensor from = previous;
            state.Layout = held.Layout.DropLast(held.Arena, module.Depth);
            Tensor normed = default;
            Tensor stream = await _runner.ForwardAsync(
                [MtpEntry(held, module.Depth)], held.Arena,
                kernels => module.Join(
                    kernels, held.Arena, held.Layout, fromLayout, from, held.Embeddings, batch.Targets, state),
                pass with { Layout = state.Layout }, call,
                (kernels, _) =>
                {
                    normed = module.Normalize(kernels, held.Arena, state);
                    double scale = options.MtpScales[module.Depth - 1];
                    ForwardHead(kernels, held, normed, state.Targets, scale, options, state.Head);
                });
            await then(module, normed);
            previous = MtpReadsNormed ? normed : stream;
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

    private async Task<(Tensor GradStream, Tensor GradEmbeddings)> BackwardHeadsAsync(
        Slot held, SlotCall call, bool weightGradients)
    {
        Arena arena = held.Arena;
        Tensor gradStream = default, gradEmbeddings = default;
        await _device.SubmitAsync(kernels =>
        {
            int width = Config.HiddenSize;
            gradStream = Zero(kernels, arena, held.Layout.Tokens, width);
            gradEmbeddings = _mtp.Count > 0 ? Zero(kernels, arena, held.Layout.Tokens, width) : default;
            held.GradNormed = HeadBackwardInput(kernels, arena, held.Head, held.Layout.Tokens);
            foreach (MultiTokenPrediction.State state in held.Mtp)
            {
                state.GradStream = Zero(kernels, arena, state.Layout.Tokens, width);
                state.GradNormed = HeadBackwardInput(kernels, arena, state.Head, state.Layout.Tokens);
            }
        }, call.Priority);
        for (int depth = _mtp.Count; depth >= 1; depth--)
        {
            MultiTokenPrediction module = _mtp[depth - 1];
            MultiTokenPrediction.State state = held.Mtp[depth - 1];
            await _device.SubmitAsync(kernels => module.BackwardNormalize(kernels, state), call.Priority);
            Tensor gradProjected = await _runner.BackwardAsync(
                [MtpEntry(held, depth)], arena, state.GradStream, held.Options.Balance, call, weightGradients);
            Tensor gradPrevious = depth > 1
                ? MtpReadsNormed ? held.Mtp[depth - 2].GradNormed : held.Mtp[depth - 2].GradStream
                : MtpReadsNormed ? held.GradNormed : gradStream;
            await _device.SubmitAsync(
                kernels => module.BackwardJoin(kernels, arena, state, gradProjected, gradEmbeddings, gradPrevious),
                call.Priority);
        }

        await _device.SubmitAsync(kernels =>
        {
            _norm!.BackwardInput(kernels, held.Norm, held.GradNormed, gradStream, accumulate: true);
            if (weightGradients)
            {
                HeadsBackwardWeight(kernels, held, call.Slot);
            }
        }, call.Priority);
        return (gradStream, gradEmbeddings);
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
