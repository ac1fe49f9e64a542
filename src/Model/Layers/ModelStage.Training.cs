using Krewe.Model.Kernels;
using Krewe.Model.Tensors;
using Krewe.Model.Training;

namespace Krewe.Model.Layers;

/// <content>Forward and backward of a micro-batch.</content>
public sealed partial class ModelStage
{
    /// <summary>Rows of depth 1 below which a sequence is too short to compare the two heads.</summary>
    private const int AgreementRows = 3;

    /// <summary>
    /// Runs a micro-batch through this stage; the losses of the last stage come from <see cref="Losses"/>.
    /// </summary>
    /// <param name="call">Where its activations are kept, and the step.</param>
    /// <param name="batch">Tokens and targets.</param>
    /// <param name="input">
    /// What the previous stage handed over, or the rows of an embedding elsewhere; ignored by a first stage that has it.
    /// </param>
    /// <param name="options">Scales and mode.</param>
    public async Task<StageActivations> ForwardAsync(
        SlotCall call, MicroBatch batch, StageActivations input, ForwardOptions options)
    {
        Slot held = SlotOf(call.Slot);
        held.Arena.Reset();
        held.Received?.Reset();
        held.Options = options;
        held.Layout = TokenLayout.Create(held.Arena, batch.SequenceStarts);
        held.Embeddings = input.Embeddings;
        BalanceLossOptions? balance = options.Mode == ForwardMode.Evaluation ? null : options.Balance;
        var pass = new ForwardPass(held.Layout, _rotaryTable, balance);
        held.Stream = await _runner.ForwardAsync(
            held.Blocks, held.Arena, kernels => Embed(kernels, held, batch.Tokens, input.Hidden), pass, call,
            Range.IsLast ? (kernels, stream) => ForwardMainHead(kernels, held, stream, batch, options) : null);
        if (Range.IsLast)
        {
            await ForwardHeadsAsync(held, call, batch, options, pass);
        }

        return new(held.Stream, Config.NumNextnPredictLayers > 0 ? held.Embeddings : default);
    }

    /// <summary>Losses of the slot's last forward; only on the last stage.</summary>
    public MicroBatchLosses Losses(long slot)
    {
        Slot held = SlotOf(slot);
        bool evaluated = held.Options.Mode == ForwardMode.Evaluation;
        int[] starts = held.Layout.SequenceStarts;
        Span<float> losses = held.Head.Losses.AsSpan<float>();
        var perSequence = new double[held.Layout.Sequences];
        for (int s = 0; s < perSequence.Length; s++)
        {
            perSequence[s] = Sum(losses[starts[s]..starts[s + 1]]);
        }

        int compared = 0, same = 0;
        if (evaluated && _mtp.Count > 0)
        {
            (same, compared) = Agreement(held);
        }

        return new()
        {
            MainSum = perSequence.Sum(),
            MainCount = CountTargets(held.MainTargets),
            MtpSums = [.. held.Mtp.Select(state => Sum(state.Head.Losses.AsSpan<float>()))],
            MtpCounts = [.. held.Mtp.Select(state => CountTargets(state.Targets))],
            SequenceSums = perSequence,
            Agreements = same,
            AgreementCount = compared,
        };
    }

    /// <summary>Expert loads and balance losses of the slot's last forward, one entry per MoE layer.</summary>
    public IReadOnlyList<LayerLoad> Loads(long slot)
    {
        Slot held = SlotOf(slot);
        return [.. held.Blocks.Concat(MtpEntries(held)).Where(entry => entry.Block.Moe is not null).Select(entry =>
            new LayerLoad(
                entry.Block.Layer, [.. entry.State.Moe.Plan.Load], entry.State.Moe.Router.BalanceLoss))];
    }

    /// <summary>
    /// Gradients of what the previous stage handed over; they live until the next forward of any slot. Weight gradients
    /// are added now, or by <see cref="BackwardWeightAsync"/>; after them the slot is over, unless it is a check's.
    /// </summary>
    /// <param name="call">The micro-batch and its step.</param>
    /// <param name="gradOutput">Gradients from the next stage; ignored by the last.</param>
    /// <param name="weightGradients">Also takes the weight gradients.</param>
    public async Task<StageActivations> BackwardAsync(
        SlotCall call, StageActivations gradOutput, bool weightGradients = true)
    {
        Slot held = SlotOf(call.Slot);
        Tensor gradStream = gradOutput.Hidden;
        Tensor gradEmbeddings = gradOutput.Embeddings;
        if (Range.IsLast)
        {
            (gradStream, gradEmbeddings) = await BackwardHeadsAsync(held, call, weightGradients);
        }

        Tensor gradInput = await _runner.BackwardAsync(
            held.Blocks, held.Arena, gradStream, held.Options.Balance, call, weightGradients);
        held.GradInput = new(gradInput, gradEmbeddings);
        StageActivations result = held.GradInput;
        if (weightGradients)
        {
            await EmbeddingBackwardWeightAsync(held, call.Slot);
            Retire(call.Slot, held);
        }

        return result;
    }

    /// <summary>Takes the weight gradients that <see cref="BackwardAsync"/> left, the experts' included.</summary>
    public async Task BackwardWeightAsync(SlotCall call)
    {
        Slot held = SlotOf(call.Slot);
        if (Range.IsLast)
        {
            await _device.SubmitAsync(
                kernels => HeadsBackwardWeight(kernels, held, call.Slot), WorkPriority.Background);
            for (int depth = _mtp.Count; depth >= 1; depth--)
            {
                await _runner.BackwardWeightAsync([MtpEntry(held, depth)], call);
            }
        }

        await _runner.BackwardWeightAsync(held.Blocks, call);
        await EmbeddingBackwardWeightAsync(held, call.Slot);
        Retire(call.Slot, held);
    }

    /// <summary>
    /// The stage's input: embeddings on the first stage, what was handed over on the others and where the embedding is
    /// elsewhere.
    /// </summary>
    private Tensor Embed(IKernels kernels, Slot held, int[] tokens, Tensor hidden)
    {
        if (Embedding is null)
        {
            return hidden;
        }

        held.Ids = held.Arena.Allocate(tokens.Length, DType.Int32);
        tokens.CopyTo(held.Ids.AsSpan<int>());
        held.Embeddings = Embedding.Forward(kernels, held.Arena, held.Ids);
        return held.Embeddings;
    }

    private Task EmbeddingBackwardWeightAsync(Slot held, long slot) => Embedding is null
        ? Task.CompletedTask
        : _device.SubmitAsync(
            kernels => Embedding.BackwardWeight(kernels, slot, held.Ids, held.GradInput), WorkPriority.Background);

    private BlockRunner.Entry MtpEntry(Slot held, int depth) =>
        new(_mtp[depth - 1].Block, held.Mtp[depth - 1].Block);

    private IEnumerable<BlockRunner.Entry> MtpEntries(Slot held) =>
        Enumerable.Range(1, _mtp.Count).Select(depth => MtpEntry(held, depth));

    private static Tensor Zero(IKernels kernels, Arena arena, int rows, int columns)
    {
        Tensor tensor = arena.Allocate(rows, columns);
        kernels.Fill(tensor, 0);
        return tensor;
    }

    private static double Sum(ReadOnlySpan<float> values)
    {
        double sum = 0;
        foreach (float value in values)
        {
            sum += value;
        }

        return sum;
    }

    /// <summary>
    /// Rows where depth 1, which has seen the next token, and the main head one row on name the same token. Sequences
    /// of at most three ids are left out, and rows without a next token (the filling of a window).
    /// </summary>
    private static (int Same, int Compared) Agreement(Slot held)
    {
        TokenLayout layout = held.Mtp[0].Layout;
        int[] starts = held.Layout.SequenceStarts;
        ReadOnlySpan<int> ahead = held.Mtp[0].Head.ArgMax.AsSpan<int>();
        ReadOnlySpan<int> main = held.Head.ArgMax.AsSpan<int>();
        ReadOnlySpan<int> targets = held.MainTargets.AsSpan<int>();
        int same = 0, compared = 0;
        for (int s = 0; s < layout.Sequences; s++)
        {
            int rows = layout.SequenceStarts[s + 1] - layout.SequenceStarts[s];
            for (int i = 0; i < rows && rows >= AgreementRows; i++)
            {
                bool known = targets[starts[s] + i] >= 0;
                compared += known ? 1 : 0;
                same += known && ahead[layout.SequenceStarts[s] + i] == main[starts[s] + i + 1] ? 1 : 0;
            }
        }

        return (same, compared);
    }

    private static int CountTargets(Tensor targets)
    {
        int count = 0;
        foreach (int target in targets.AsSpan<int>())
        {
            count += target >= 0 ? 1 : 0;
        }

        return count;
    }
}
