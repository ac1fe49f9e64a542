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
        held.MainTargets = held.Arena.Allocate(batch.Targets.Length, DType.Int32);
        batch.Targets.CopyTo(held.MainTargets.AsSpan<int>());
        held.Norm = _norm!.Forward(kernels, held.Arena, stream);
        ForwardHead(kernels, held, held.Norm.Output, held.MainTargets, options.MainScale, options, held.Head);
    }

    private async Task ForwardMtpAsync(
        Slot held, SlotCall call, MicroBatch batch, ForwardOptions options, ForwardPass pass)
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
            previous = MtpReadsNormed ? normed : stream;
            previousLayout = state.Layout;
        }
    }

    private void ForwardHead(
        IKernels kernels, Slot held, Tensor hidden, Tensor targets, double scale, ForwardOptions options,
        OutputHead.State state)
    {
        if (options.Mode == ForwardMode.Evaluation)
        {
            _head!.Evaluate(kernels, held.Arena, hidden, targets, state);
        }
        else
        {
            bool keep = options.Mode == ForwardMode.Check;
            _head!.Forward(kernels, held.Arena, hidden, targets, (float)scale, keep, state);
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
            held.GradNormed = arena.Allocate(held.Layout.Tokens, width);
            _head!.BackwardInput(kernels, held.Head, held.GradNormed);
            foreach (MultiTokenPrediction.State state in held.Mtp)
            {
                state.GradStream = Zero(kernels, arena, state.Layout.Tokens, width);
                state.GradNormed = arena.Allocate(state.Layout.Tokens, width);
                _head.BackwardInput(kernels, state.Head, state.GradNormed);
            }
        });
        for (int depth = _mtp.Count; depth >= 1; depth--)
        {
            MultiTokenPrediction module = _mtp[depth - 1];
            MultiTokenPrediction.State state = held.Mtp[depth - 1];
            await _device.SubmitAsync(kernels => module.BackwardNormalize(kernels, state));
            Tensor gradProjected = await _runner.BackwardAsync(
                [MtpEntry(held, depth)], arena, state.GradStream, held.Options.Balance, call, weightGradients);
            Tensor gradPrevious = depth > 1
                ? MtpReadsNormed ? held.Mtp[depth - 2].GradNormed : held.Mtp[depth - 2].GradStream
                : MtpReadsNormed ? held.GradNormed : gradStream;
            await _device.SubmitAsync(kernels =>
                module.BackwardJoin(kernels, arena, state, gradProjected, gradEmbeddings, gradPrevious));
        }

        await _device.SubmitAsync(kernels =>
        {
            _norm!.BackwardInput(kernels, held.Norm, held.GradNormed, gradStream, accumulate: true);
            if (weightGradients)
            {
                HeadsBackwardWeight(kernels, held, call.Slot);
            }
        });
        return (gradStream, gradEmbeddings);
    }

    /// <summary>Head, final norm and the MTP modules' own weights, the head's contributions in depth order.</summary>
    private void HeadsBackwardWeight(IKernels kernels, Slot held, long slot)
    {
        Parameters.SelectGradients(slot);
        _head!.BackwardWeight(kernels, held.Head);
        _norm!.BackwardWeight(kernels, held.Norm, held.GradNormed);
        foreach (MultiTokenPrediction module in _mtp)
        {
            _head.BackwardWeight(kernels, held.Mtp[module.Depth - 1].Head);
            module.BackwardWeight(kernels, held.Mtp[module.Depth - 1]);
        }
    }
}
