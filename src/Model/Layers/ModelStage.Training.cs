using Krewe.Model.Kernels;
using Krewe.Model.Tensors;
using Krewe.Model.Training;

namespace Krewe.Model.Layers;

/// <content>Forward and backward of a micro-batch.</content>
public sealed partial class ModelStage
{
    /// <summary>
    /// Runs a micro-batch through this stage; what it has to report comes from <see cref="ReportOf"/>.
    /// </summary>
    /// <param name="call">Where its activations are kept, and the step.</param>
    /// <param name="batch">Tokens and targets.</param>
    /// <param name="input">
    /// What the previous stage handed over, or the rows of an embedding elsewhere; ignored by a first stage that has it.
    /// </param>
    /// <param name="options">Scales and mode.</param>
    /// <param name="behind">
    /// Takes the works where nobody but this device needs their results: the call ends when they were launched. It ends when
    /// they are done where this is left out.
    /// </param>
    public async Task<StageActivations> ForwardAsync(
        SlotCall call, MicroBatch batch, StageActivations input, ForwardOptions options, SubmittedWorks? behind = null)
    {
        Slot held = SlotOf(call.Slot);
        held.Arena.Reset();
        held.Received?.Reset();
        held.Options = options;
        held.Batch = batch;
        held.Layout = TokenLayout.Create(held.Arena, batch.SequenceStarts);
        foreach (MultiTokenPrediction module in _mtp)
        {
            // Now: once works are submitted the arena is theirs.
            held.Mtp[module.Depth - 1].Layout = held.Layout.DropLast(held.Arena, module.Depth);
        }

        held.Embeddings = input.Embeddings;
        held.Report = TakeReport();
        held.Report.Begin(batch);
        BalanceLossOptions? balance = options.Mode == ForwardMode.Evaluation ? null : options.Balance;
        var pass = new ForwardPass(held.Layout, _rotaryTable, balance);
        SubmittedWorks works = behind ?? new(_device);
        await works.RunAsync(async () =>
        {
            await _runner.ForwardAsync(
                held.Blocks, held.Arena, kernels => Begin(kernels, held, batch.Tokens, input.Hidden), pass, call, works,
                Range.IsLast ? (kernels, stream) => ForwardMainHead(kernels, held, stream, batch, options) : null);
            if (Range.IsLast)
            {
                await ForwardHeadsAsync(held, call, batch, options, pass, works);
            }

            works.Submit(kernels => FetchReport(kernels, held), call.Priority);
            await (behind is null ? works.DoneAsync() : works.LaunchedAsync());
        });
        return new(held.Stream, Config.NumNextnPredictLayers > 0 ? held.Embeddings : default);
    }

    /// <summary>
    /// Losses, loads and balance losses of the slot's last forward, to be read when that is done, and given back; it may be
    /// taken before the micro-batch is over, and read later.
    /// </summary>
    public ForwardReport ReportOf(long slot) => SlotOf(slot).Report;

    /// <summary>
    /// Gradients of what the previous stage handed over; they live until the next forward of any slot. Weight gradients
    /// are added now, or by <see cref="BackwardWeightAsync"/>; after them the slot is over, unless it is a check's.
    /// </summary>
    /// <param name="call">The micro-batch and its step.</param>
    /// <param name="gradOutput">Gradients from the next stage; ignored by the last.</param>
    /// <param name="weightGradients">Also takes the weight gradients.</param>
    /// <param name="behind">As of <see cref="ForwardAsync"/>.</param>
    public async Task<StageActivations> BackwardAsync(
        SlotCall call, StageActivations gradOutput, bool weightGradients = true, SubmittedWorks? behind = null)
    {
        Slot held = SlotOf(call.Slot);
        SubmittedWorks works = behind ?? new(_device);
        await works.RunAsync(async () =>
        {
            held.GradStream = gradOutput;
            if (Range.IsLast)
            {
                await BackwardHeadsAsync(held, call, weightGradients, works);
            }

            await _runner.BackwardAsync(
                held.Blocks, held.Arena, () => held.GradStream.Hidden, held.Options.Balance, call, weightGradients, works);
            await (behind is null ? works.DoneAsync() : works.LaunchedAsync());
            held.GradInput = new(held.Blocks[0].State.GradInput, held.GradStream.Embeddings);
            if (weightGradients)
            {
                await EndAsync(held, call, works, behind);
            }
        });
        return held.GradInput;
    }

    /// <summary>Takes the weight gradients that <see cref="BackwardAsync"/> left, the experts' included.</summary>
    /// <param name="call">The micro-batch and its step.</param>
    /// <param name="behind">As of <see cref="ForwardAsync"/>.</param>
    public async Task BackwardWeightAsync(SlotCall call, SubmittedWorks? behind = null)
    {
        Slot held = SlotOf(call.Slot);
        SubmittedWorks works = behind ?? new(_device);
        await works.RunAsync(async () =>
        {
            if (Range.IsLast)
            {
                works.Submit(kernels => HeadsBackwardWeight(kernels, held, call.Slot), WorkPriority.Background);
                for (int depth = _mtp.Count; depth >= 1; depth--)
                {
                    await _runner.BackwardWeightAsync([MtpEntry(held, depth)], call, works);
                }
            }

            await _runner.BackwardWeightAsync(held.Blocks, call, works);
            await EndAsync(held, call, works, behind);
        });
    }

    /// <summary>The last of a micro-batch: the embedding's gradient, then its memory goes to another.</summary>
    private async Task EndAsync(Slot held, SlotCall call, SubmittedWorks works, SubmittedWorks? behind)
    {
        if (Embedding is { } embedding)
        {
            works.Submit(
                kernels => embedding.BackwardWeight(kernels, call.Slot, held.Ids, held.GradInput), WorkPriority.Background);
        }

        await (behind is null ? works.DoneAsync() : works.LaunchedAsync());
        Retire(call.Slot, held);
    }

    private void FetchReport(IKernels kernels, Slot held)
    {
        foreach (BlockRunner.Entry entry in held.Blocks.Concat(MtpEntries(held)))
        {
            if (entry.Block.Moe is not null)
            {
                held.Report.Fetch(kernels, entry);
            }
        }

        if (!Range.IsLast)
        {
            return;
        }

        bool evaluated = held.Options.Mode == ForwardMode.Evaluation;
        held.Report.Fetch(kernels, held.Layout, held.Head, evaluated);
        foreach (MultiTokenPrediction.State state in held.Mtp)
        {
            held.Report.Fetch(kernels, state.Layout, state.Head, evaluated);
        }
    }

    private ForwardReport TakeReport()
    {
        lock (_slots)
        {
            if (!_idleReports.TryPop(out ForwardReport? report))
            {
                report = new(_device.CreateHostArena($"stage {Range.Index}, losses and loads"), _fleet, GiveBack);
                _reports.Add(report);
            }

            return report;
        }
    }

    private void GiveBack(ForwardReport report)
    {
        lock (_slots)
        {
            _idleReports.Push(report);
        }
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
}
