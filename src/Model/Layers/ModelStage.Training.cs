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
    /// Runs a micro-batch through this stage; the losses of the last stage come from <see cref="LossesAsync"/>.
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
        held.Batch = batch;
        held.Layout = TokenLayout.Create(held.Arena, batch.SequenceStarts);
        held.Embeddings = input.Embeddings;
        BalanceLossOptions? balance = options.Mode == ForwardMode.Evaluation ? null : options.Balance;
        var pass = new ForwardPass(held.Layout, _rotaryTable, balance);
        held.Stream = await _runner.ForwardAsync(
            held.Blocks, held.Arena, kernels => Begin(kernels, held, batch.Tokens, input.Hidden), pass, call,
            Range.IsLast ? (kernels, stream) => ForwardMainHead(kernels, held, stream, batch, options) : null);
        if (Range.IsLast)
        {
            await ForwardHeadsAsync(held, call, batch, options, pass);
        }

        return new(held.Stream, Config.NumNextnPredictLayers > 0 ? held.Embeddings : default);
    }

    /// <summary>Losses of the slot's last forward; only on the last stage.</summary>
    public async Task<MicroBatchLosses> LossesAsync(long slot)
    {
        Slot held = SlotOf(slot);
        MicroBatchLosses? losses = null;
        await _device.ReadAsync(kernels => losses = Losses(kernels, held));
        return losses!;
    }

    private MicroBatchLosses Losses(IKernels kernels, Slot held)
    {
        bool evaluated = held.Options.Mode == ForwardMode.Evaluation;
        int[] starts = held.Layout.SequenceStarts;
        ReadOnlySpan<float> losses = kernels.Read<float>(held.Head.Losses);
        var perSequence = new double[held.Layout.Sequences];
        for (int s = 0; s < perSequence.Length; s++)
        {
            perSequence[s] = Sum(losses[starts[s]..starts[s + 1]]);
        }

        int compared = 0, same = 0;
        if (evaluated && _mtp.Count > 0)
        {
            (same, compared) = Agreement(kernels, held);
        }

        return new()
        {
            MainSum = perSequence.Sum(),
            MainCount = held.Batch.TargetCount(0),
            MtpSums = [.. held.Mtp.Select(state => Sum(kernels.Read<float>(state.Head.Losses)))],
            MtpCounts = [.. held.Mtp.Select((_, index) => held.Batch.TargetCount(index + 1))],
            SequenceSums = perSequence,
            Agreements = same,
            AgreementCount = compared,
        };
    }

    /// <summary>
    /// Expert loads and balance losses of the slot's last forward, one entry per MoE layer: all in one transfer, which the
    /// device does not wait for.
    /// </summary>
    public async Task<IReadOnlyList<LayerLoad>> LoadsAsync(long slot)
    {
        Slot held = SlotOf(slot);
        BlockRunner.Entry[] layers =
            [.. held.Blocks.Concat(MtpEntries(held)).Where(entry => entry.Block.Moe is not null)];
        if (layers.Length == 0)
        {
            return [];
        }

        Arena room = held.OnHost ??= _device.CreateHostArena($"stage {Range.Index}, loads of experts");
        room.Reset();
        MoeLoad[] values = [.. layers.Select(entry => new MoeLoad(entry.State.Moe, room))];
        await _device.ReadAsync(kernels => Array.ForEach(values, value => value.Fetch(kernels)));
        var loads = new LayerLoad[layers.Length];
        for (int i = 0; i < layers.Length; i++)
        {
            int layer = layers[i].Block.Layer;
            loads[i] = new(layer, values[i].Tokens(), values[i].BalanceLoss());
            if (values[i].IsOfDevice)
            {
                _fleet.Count(layer, loads[i].Load);
            }
        }

        return loads;
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

    /// <summary>Writes what a pass reads beside its rows, and gives its input.</summary>
    private Tensor Begin(IKernels kernels, Slot held, int[] tokens, Tensor hidden)
    {
        if (!_rotaryTableFilled)
        {
            kernels.Write(_rotaryTable, Config, static (values, config) => RotaryEmbedding.FillTable(config, values));
            _rotaryTableFilled = true;
        }

        held.Layout.Fill(kernels);
        return Embed(kernels, held, tokens, hidden);
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

        held.Ids = held.Arena.Upload(kernels, tokens.AsSpan());
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
    private static (int Same, int Compared) Agreement(IKernels kernels, Slot held)
    {
        TokenLayout layout = held.Mtp[0].Layout;
        int[] starts = held.Layout.SequenceStarts;
        ReadOnlySpan<int> ahead = kernels.Read<int>(held.Mtp[0].Head.ArgMax);
        ReadOnlySpan<int> main = kernels.Read<int>(held.Head.ArgMax);
        int[] targets = held.Batch.Targets;
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
}
