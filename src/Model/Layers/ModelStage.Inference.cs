using System.Buffers;
using Krewe.Model.Generation;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>Outcome of a decoding call on one stage.</summary>
/// <param name="Hidden">[R, D]: residual stream, for the next stage.</param>
/// <param name="Tokens">
/// The token that follows each sequence, on the last stage, and behind them those that follow these, where the step wants
/// several and the stage gives them; empty on the other stages.
/// </param>
public readonly record struct DecodeResult(Tensor Hidden, int[] Tokens);

/// <content>Generation with a latent cache, and tensors by name for checks.</content>
public sealed partial class ModelStage
{
    /// <summary>Opens a session with an empty cache.</summary>
    /// <param name="session">Its number.</param>
    /// <param name="capacities">Most tokens of each sequence.</param>
    public void OpenSession(long session, IReadOnlyList<int> capacities)
    {
        Slot held = SlotOf(session);
        held.Repeated?.Dispose();
        held.Repeated = null;
        held.Cache?.Dispose();
        held.Cache = new(
            _device, Range.LayerCount, Config.KvLoraRank + Config.QkRopeHeadDim, _latentCache, capacities);
    }

    /// <summary>
    /// Runs the next tokens of some sequences of a session: the first stage takes the step's tokens, later ones
    /// <paramref name="hidden"/>.
    /// </summary>
    /// <returns>The residual stream [R, D], and on the last stage the tokens that follow.</returns>
    /// <param name="session">An open session.</param>
    /// <param name="step">Sequences and tokens.</param>
    /// <param name="hidden">[R, D] from the previous stage.</param>
    public async Task<DecodeResult> DecodeAsync(long session, DecodeStep step, Tensor hidden)
    {
        Slot held = SlotOf(session);
        LatentKvCache cache = held.Cache
            ?? throw new InvalidOperationException($"session {session} is not open on stage {Range.Index}");
        bool single = step.Starts[^1] == step.Sequences.Length;
        // The next token is known here where all stages are this one and none is drawn.
        int ahead = single && RepeatsSteps && Embedding is not null && Range.IsLast && IsGreedy(step)
            ? Math.Min(step.Ahead, MostAhead)
            : 1;
        int[] positions = Reserve(cache, step, ahead);
        bool whole = positions.All(position => position == 0);
        bool repeats = single && !whole && RepeatsSteps;
        ahead = repeats ? ahead : 1;
        DecodeResult result = repeats
            ? await RepeatAsync(held, session, step with { Ahead = ahead }, hidden, positions)
            : await CallAsync(held, session, step, hidden, positions, whole);
        for (int s = 0; s < step.Sequences.Length; s++)
        {
            cache.Advance(step.Sequences[s], step.Starts[s + 1] - step.Starts[s] + ahead - 1);
        }

        return result;
    }

    private async Task<DecodeResult> CallAsync(
        Slot held, long session, DecodeStep step, Tensor hidden, int[] positions, bool whole)
    {
        LatentKvCache cache = held.Cache!;
        held.Arena.Reset();
        held.Layout = TokenLayout.Create(held.Arena, step.Starts, positions);
        Tensor table = held.Arena.Allocate(step.Sequences.Length, cache.MostPages, DType.Int32);
        var pass = new ForwardPass(held.Layout, _rotaryTable, null, new(cache, Range.FirstLayer, table, whole));
        int[] tokens = [];
        var works = new SubmittedWorks(_device);
        await works.RunAsync(() => _runner.ForwardAsync(
            held.Blocks, held.Arena,
            kernels =>
            {
                UploadTable(kernels, cache, step.Sequences, table);
                return Begin(kernels, held, step.Tokens, hidden);
            },
            pass, new(session, positions[0]), works,
            Range.IsLast ? (kernels, output) => tokens = Choose(kernels, held, output, step, positions) : null));
        await works.DoneAsync();
        return new(held.Stream, tokens);
    }

    private static bool IsGreedy(DecodeStep step) => !Array.Exists(step.Sampling, sampling => sampling.Temperature > 0);

    /// <summary>
    /// Ends what is over and takes pages for the rest, for the step's tokens and those that it goes ahead; gives the
    /// position of each sequence's next token.
    /// </summary>
    private static int[] Reserve(LatentKvCache cache, DecodeStep step, int ahead)
    {
        foreach (int sequence in step.Ended)
        {
            cache.End(sequence);
        }

        int[] positions = new int[step.Sequences.Length];
        for (int s = 0; s < positions.Length; s++)
        {
            positions[s] = cache.LengthOf(step.Sequences[s]);
            cache.Reserve(step.Sequences[s], step.Starts[s + 1] - step.Starts[s] + ahead - 1);
        }

        return positions;
    }

    private static void UploadTable(IKernels kernels, LatentKvCache cache, int[] sequences, Tensor table)
    {
        int[] pages = ArrayPool<int>.Shared.Rent((int)table.Count);
        cache.FillTable(sequences, pages.AsSpan(0, (int)table.Count));
        kernels.Upload<int>(pages.AsSpan(0, (int)table.Count), table);
        ArrayPool<int>.Shared.Return(pages);
    }

    /// <summary>
    /// The token behind the last row of each sequence. A draw is numbered by its position, wherever the sequence runs.
    /// </summary>
    private int[] Choose(IKernels kernels, Slot held, Tensor stream, DecodeStep step, int[] positions)
    {
        int count = step.Sequences.Length;
        Tensor last = stream;
        if (stream.Rows > count)
        {
            last = held.Arena.Allocate(count, stream.Columns);
            Tensor rows = held.Arena.Upload<int, int[]>(
                kernels, count, step.Starts, static (values, starts) =>
                {
                    for (int s = 0; s < values.Length; s++)
                    {
                        values[s] = starts[s + 1] - 1;
                    }
                });
            kernels.GatherRows(stream, rows, default, last);
        }

        Tensor logits = Head!.Logits(kernels, held.Arena, _norm!.Forward(kernels, held.Arena, last).Output);
        Tensor best = held.Arena.Allocate(count, DType.Int32);
        kernels.ArgMax(logits, best);
        int[] tokens = kernels.Read<int>(best).ToArray();
        Sample(kernels, logits, step, positions, tokens);
        return tokens;
    }

    /// <summary>Replaces the most likely token by a drawn one where a sequence asks for it.</summary>
    private static void Sample(IKernels kernels, Tensor logits, DecodeStep step, int[] positions, int[] tokens)
    {
        if (IsGreedy(step))
        {
            return;
        }

        ReadOnlySpan<float> all = kernels.Read<float>(logits);
        for (int s = 0; s < tokens.Length; s++)
        {
            long position = positions[s] + step.Starts[s + 1] - step.Starts[s];
            tokens[s] = step.Sampling[s].Temperature > 0
                ? Sampler.Sample(all.Slice(s * logits.Columns, logits.Columns), step.Sampling[s], position)
                : tokens[s];
        }
    }

    /// <summary>
    /// A tensor of the slot's last forward by the name that reference files use: <c>layer_output.i</c>,
    /// <c>router_logits.i</c>, <c>topk_indices.i</c>, <c>topk_weights.i</c>, <c>final_hidden</c>, <c>logits</c>,
    /// <c>mtp_logits.k</c>; empty where this stage has no such tensor.
    /// </summary>
    public Tensor Activation(long slot, string name)
    {
        Slot held = SlotOf(slot);
        string[] parts = name.Split('.');
        int number = -1;
        if (parts.Length == 2 && !int.TryParse(parts[1], System.Globalization.CultureInfo.InvariantCulture, out number))
        {
            return default;
        }

        TransformerBlock.State? block =
            held.Blocks.Concat(MtpEntries(held)).FirstOrDefault(entry => entry.Block.Layer == number).State;
        return parts[0] switch
        {
            "layer_output" => block?.Output ?? default,
            "router_logits" => block?.Moe.Router.Logits ?? default,
            "topk_indices" => block?.Moe.Router.Indices ?? default,
            "topk_weights" => block?.Moe.Router.Weights ?? default,
            "final_hidden" => held.Norm.Output,
            "logits" => held.Head.Logits,
            "mtp_logits" when number >= 1 && number <= held.Mtp.Length => held.Mtp[number - 1].Head.Logits,
            _ => default,
        };
    }
}
