using Krewe.Model.Generation;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>Outcome of a decoding call on one stage.</summary>
/// <param name="Hidden">[R, D]: residual stream, for the next stage.</param>
/// <param name="Token">The token that follows, on the last stage; -1 on the others.</param>
public readonly record struct DecodeResult(Tensor Hidden, int Token);

/// <content>Generation with a latent cache, and tensors by name for checks.</content>
public sealed partial class ModelStage
{
    /// <summary>Opens a session with an empty cache for <paramref name="capacity"/> tokens.</summary>
    public void OpenSession(long session, int capacity)
    {
        Slot held = SlotOf(session);
        held.Cache?.Dispose();
        held.Cache = new(_device, Range.LayerCount, Config.KvLoraRank + Config.QkRopeHeadDim, capacity);
    }

    /// <summary>
    /// Runs the next tokens of a session: the first stage takes <paramref name="tokens"/>, later ones
    /// <paramref name="hidden"/>.
    /// </summary>
    /// <returns>The residual stream [R, D], and on the last stage the token that follows.</returns>
    /// <param name="session">An open session.</param>
    /// <param name="tokens">R token ids.</param>
    /// <param name="hidden">[R, D] from the previous stage.</param>
    /// <param name="sampling">How the last stage chooses the token.</param>
    public async Task<DecodeResult> DecodeAsync(
        long session, int[] tokens, Tensor hidden, SamplingOptions sampling)
    {
        Slot held = SlotOf(session);
        LatentKvCache cache = held.Cache
            ?? throw new InvalidOperationException($"session {session} is not open on stage {Range.Index}");
        held.Arena.Reset();
        int step = cache.Length;
        held.Layout = TokenLayout.Create(held.Arena, [0, tokens.Length], step);
        var pass = new ForwardPass(held.Layout, _rotaryTable, null, cache, Range.FirstLayer);
        int token = -1;
        long position = step + tokens.Length;
        Tensor stream = await _runner.ForwardAsync(
            held.Blocks, held.Arena, kernels => Begin(kernels, held, tokens, hidden), pass, new(session, step),
            Range.IsLast ? (kernels, output) => token = Choose(kernels, held, output, sampling, position) : null);
        cache.Advance(tokens.Length);
        return new(stream, token);
    }

    /// <summary>The token after the last row. The draw is numbered by its position, wherever the sequence runs.</summary>
    private int Choose(IKernels kernels, Slot held, Tensor stream, SamplingOptions sampling, long position)
    {
        RmsNorm.Saved normed = _norm!.Forward(kernels, held.Arena, stream.SliceRows(stream.Rows - 1, 1));
        Tensor logits = Head!.Logits(kernels, held.Arena, normed.Output);
        if (sampling.Temperature > 0)
        {
            return Sampler.Sample(kernels.Read<float>(logits), sampling, position);
        }

        Tensor best = held.Arena.Allocate(1, DType.Int32);
        kernels.ArgMax(logits, best);
        return kernels.Read<int>(best)[0];
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
